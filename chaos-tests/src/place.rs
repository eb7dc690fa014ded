//! Where a server runs: its address, its directory, and what stands around its process.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::net::Front;

/// Below the range from which Linux takes the local port of an outgoing connection: while a broker
/// is down, nobody can take its port by accident, and no dialler can connect to itself.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Where one server runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address it listens on and tells others.
    pub host: Ipv4Addr,
    /// Whether it has `host` for itself, and so the ports that everybody knows.
    pub own_host: bool,
    /// Words before its command line, for example to enter a network namespace.
    pub prefix: Vec<String>,
    /// Added to its environment.
    pub environment: Vec<(String, String)>,
    /// Where its data lie.
    pub data_directory: PathBuf,
    /// Where others reach it through forwarders: what these are.
    pub front: Option<Front>,
}

impl Place {
    /// On loopback, beside others, with its data in `directory`.
    pub fn loopback(directory: &Path, name: &str) -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST,
            own_host: false,
            prefix: Vec::new(),
            environment: Vec::new(),
            data_directory: directory.join(name),
            front: None,
        }
    }

    /// `port` where the host is its own, otherwise a port that is free now and that no other call
    /// in this process returns.
    pub(crate) fn port(&self, port: u16) -> u16 {
        if self.own_host { port } else { free_port() }
    }

    /// The port under which others reach a port that it listens on.
    pub(crate) fn public_port(&self, port: u16) -> anyhow::Result<u16> {
        self.front.as_ref().map_or(Ok(port), |front| front.open(self.host, port))
    }
}

pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Tests of several processes begin at different places.
    let begin = (std::process::id() % u32::from(count / 100)) as u16 * 100;
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + begin.wrapping_add(step) % count;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
