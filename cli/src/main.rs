//! The raftmq binary.

fn main() {}
