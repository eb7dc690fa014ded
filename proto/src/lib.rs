//! The nouns and bytes of RaftMQ: what travels between clients, nodes, name servers and operators.
//!
//! Invariants: field numbers never change; the client API is wire-compatible with
//! `apache.rocketmq.v2`.
//!
//! Not here: I/O, consensus, storage, any decision.

pub mod checksum;
pub mod names;
pub mod route;

pub use generated::apache::rocketmq::v2;
pub use generated::raftmq::v1 as raftmq;

/// Generated code refers across packages by path, so the modules nest as the packages do.
#[allow(missing_docs, clippy::all, reason = "generated; the .proto files carry the comments")]
mod generated {
    pub mod apache {
        pub mod rocketmq {
            pub mod v2 {
                tonic::include_proto!("apache.rocketmq.v2");
            }
        }
    }
    pub mod raftmq {
        pub mod v1 {
            tonic::include_proto!("raftmq.v1");
        }
    }
}

/// Encoded descriptors of every service, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
