//! The network between the processes of a cluster, where links can be broken.
//!
//! Two ways to carry traffic obey the same [`Matrix`], which says for each ordered pair of hosts how
//! good the link is, and count in the same [`Counts`]:
//!
//! - [`Network`]: one network namespace per host, a TUN device in each, and a packet switch in user
//!   space between them. Every protocol passes, loss is loss, a partition is silence. Needs root.
//! - [`Proxy`]: TCP forwarders on loopback. Needs nothing, and is coarser: a connection through a cut
//!   link is accepted and then hangs, and lost data is late data. All hosts share one address, which
//!   they tell each other, so `resident` finds out who connects.
//!
//! A drill takes the first that the machine allows, or the one it is told to: [`Wires`].
//!
//! Life of a packet: `tun` reads it, `packet` says where to, `fate` draws what happens to it,
//! `schedule` when it leaves, `switch` does so, `count` remembers.
//!
//! Invariants: a link is directed; what befalls the n-th packet of a link depends on the seed, the
//! link, n and the quality at that time, on nothing else; whatever is made is removed when its owner
//! is dropped, and what a killed harness left is removed by the next.
//!
//! Not here: when to break what ([`crate::fault`]); processes inside namespaces, which their owner
//! ends before the network goes.

mod count;
mod fate;
mod link;
mod namespace;
mod network;
mod packet;
pub mod preset;
mod proxy;
mod resident;
mod schedule;
mod subnet;
mod switch;
mod tun;
mod wires;

pub use self::count::Counts;
pub use self::link::{Link, Matrix, Quality};
pub use self::namespace::remove_stale;
pub use self::network::{CLIENTS, MTU_BYTES, Network, supported};
pub use self::proxy::{OnCut, Proxy};
pub use self::resident::Residents;
pub use self::wires::{Front, Proxies, Way, Wires};
