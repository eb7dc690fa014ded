//! What a drill's hosts are connected by: the best that the machine allows, or what was asked for.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use super::link::Matrix;
use super::network::{self, CLIENTS, Network};
use super::proxy::{OnCut, Proxy};
use super::resident::Residents;

/// A way to carry traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// [`Network`].
    Namespaces,
    /// [`Proxy`].
    Proxy,
}

impl Way {
    /// The best that this machine allows.
    pub fn best() -> Self {
        if network::supported().is_ok() { Self::Namespaces } else { Self::Proxy }
    }

    /// Its name, as in `chaos probe`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::Proxy => "proxy",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Namespaces, Self::Proxy];
        let found = all.into_iter().find(|way| way.name() == text);
        found.ok_or_else(|| format!("{text} is neither namespaces nor proxy"))
    }
}

/// The wires of one run.
pub enum Wires {
    /// A namespace for each host.
    Namespaces(Network),
    /// All hosts on loopback, reached through forwarders.
    Proxies(Proxies),
}

impl Wires {
    /// Connects hosts, and [`CLIENTS`]. `seed` decides all that is left to chance.
    ///
    /// # Errors
    /// The machine does not allow this way.
    pub fn start(way: Way, hosts: &[&str], seed: u64) -> anyhow::Result<Self> {
        Ok(match way {
            Way::Namespaces => Self::Namespaces(Network::start(hosts, seed)?),
            Way::Proxy => Self::Proxies(Proxies::start(hosts, seed)?),
        })
    }

    /// Which they are.
    pub fn way(&self) -> Way {
        match self {
            Self::Namespaces(_) => Way::Namespaces,
            Self::Proxies(_) => Way::Proxy,
        }
    }

    /// The links, to change and to ask.
    pub fn links(&self) -> &Matrix {
        match self {
            Self::Namespaces(network) => network.links(),
            Self::Proxies(proxies) => proxies.proxy.links(),
        }
    }
}

/// Forwarders, and who is known to sit behind which connection.
pub struct Proxies {
    proxy: Arc<Proxy>,
    residents: Residents,
}

impl Proxies {
    fn start(hosts: &[&str], seed: u64) -> anyhow::Result<Self> {
        let names: Vec<&str> = hosts.iter().copied().chain([CLIENTS]).collect();
        let proxy = Arc::new(Proxy::start(&names, seed, OnCut::Hold)?);
        Ok(Self { proxy, residents: Residents::default() })
    }

    /// The front of a host.
    pub fn front(&self, host: &str) -> Front {
        let (proxy, residents) = (self.proxy.clone(), self.residents.clone());
        Front { proxy, residents, host: host.to_owned() }
    }
}

/// What everybody else sees of a host: forwarders to its ports.
#[derive(Clone)]
pub struct Front {
    proxy: Arc<Proxy>,
    residents: Residents,
    host: String,
}

impl Front {
    /// A port of `address` that leads to `port` of it. Each who connects has a link of its own.
    pub fn open(&self, address: Ipv4Addr, port: u16) -> anyhow::Result<u16> {
        let target = SocketAddr::from((address, port));
        Ok(self.proxy.front(&self.host, target, self.residents.clone())?.port())
    }

    /// From now on this process is the host.
    pub fn moved_in(&self, pid: u32) {
        self.residents.note(&self.host, pid);
    }
}

impl fmt::Debug for Front {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("host", &self.host).finish_non_exhaustive()
    }
}
