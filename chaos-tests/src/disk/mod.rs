//! The disks of the processes of a cluster, where they can fail.
