//! The network between the processes of a cluster, where links can be broken.
