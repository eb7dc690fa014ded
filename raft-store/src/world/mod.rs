//! What touches the world: files, tables, connections, threads, clocks.
//!
//! The rest of this crate, and of the broker, names these things only through here. In the product
//! they are the standard library's, tokio's and RocksDB's own, without a layer in between. With the
//! cargo feature `simulation` they are simulated: one thread, virtual time, disks that lose what was
//! not flushed, links that stall and break (`docs/decisions/0012-simulation.md`). Both sides have the
//! same items with the same signatures, as far as they are used.
//!
//! Not here: any decision of the product. What is written here twice is not tested by the simulation.

#[cfg(not(feature = "simulation"))]
mod real;
#[cfg(feature = "simulation")]
pub mod simulated;

#[cfg(not(feature = "simulation"))]
pub use self::real::*;
#[cfg(feature = "simulation")]
pub use self::simulated::*;
