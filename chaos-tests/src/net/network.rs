//! A network of namespaces for one run: made, changed, asked, removed.

use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, ensure};

use super::count::Counts;
use super::link::{Link, Matrix};
use super::namespace::{self, Namespace};
use super::subnet::Subnet;
use super::switch::{Port, Switch};
use super::tun::Tun;

/// The host of the namespace that the harness itself lives in: its own clients are there. Its links
/// are in the matrix as those of any other.
pub const CLIENTS: &str = "clients";

/// Of the devices, unless told otherwise: that of Ethernet, so that a lost packet loses as much as
/// it would there.
pub const MTU_BYTES: u32 = 1500;

/// Name of the device inside each namespace.
const DEVICE: &str = "rmq0";
/// Packets that the kernel keeps for the switch. What exceeds it is dropped uncounted, hence much.
const QUEUE_PACKETS: u32 = 10_000;
/// Last byte of the address of [`CLIENTS`]; the hosts begin at 1.
const CLIENTS_BYTE: u8 = 254;

/// Hosts in namespaces of their own, connected by links that can be broken. Needs root.
pub struct Network {
    // Dropped in this order: devices first, then what they are in.
    _switch: Switch,
    namespaces: Vec<Namespace>,
    subnet: Subnet,
    matrix: Matrix,
}

impl Network {
    /// Makes a perfect network. Names are lower case letters, digits and hyphens. `seed` decides all
    /// that is left to chance, for hosts in the same order.
    ///
    /// A host reaches the others and [`CLIENTS`] by their addresses and nothing else: what the
    /// harness offers it must listen there, not on loopback.
    ///
    /// # Errors
    /// Missing rights or tools, as [`supported`] says; bad names.
    pub fn start(hosts: &[&str], seed: u64) -> anyhow::Result<Self> {
        Self::start_with_mtu(hosts, seed, MTU_BYTES)
    }

    /// As [`Self::start`], with another size of the largest packet, 576 to 65,535 bytes.
    pub fn start_with_mtu(hosts: &[&str], seed: u64, mtu_bytes: u32) -> anyhow::Result<Self> {
        ensure!((576..=65_535).contains(&mtu_bytes), "an MTU of {mtu_bytes} bytes");
        ensure!(hosts.len() < usize::from(CLIENTS_BYTE), "{} hosts are too many", hosts.len());
        let well_formed =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        for host in hosts {
            ensure!(host.bytes().all(well_formed), "{host:?} can not be the name of a host");
        }
        let names: Vec<&str> = hosts.iter().copied().chain([CLIENTS]).collect();
        let matrix = Matrix::new(&names)?;

        for name in namespace::remove_stale() {
            eprintln!("removed {name}, left by a harness that no longer runs");
        }
        let run = next_run();
        let (subnet, clients) =
            Subnet::claim(std::process::id().wrapping_mul(7).wrapping_add(run))?;
        let clients_address = subnet.address(CLIENTS_BYTE);
        namespace::ip(&["-batch", "-"], &setup(&subnet.device(), clients_address, mtu_bytes))?;

        let mut namespaces = Vec::new();
        let mut ports = Vec::new();
        for (last, host) in (1..).zip(hosts) {
            let namespace = Namespace::create(run, host)?;
            let tun = namespace.inside(|| Tun::open(DEVICE))?.context("no TUN device")?;
            let address = subnet.address(last);
            let batch = format!("link set dev lo up\n{}", setup(DEVICE, address, mtu_bytes));
            namespace.ip(&batch)?;
            namespaces.push(namespace);
            ports.push(Port { address, tun });
        }
        ports.push(Port { address: clients_address, tun: clients });
        let switch = Switch::start(ports, matrix.clone(), seed)?;
        Ok(Self { _switch: switch, namespaces, subnet, matrix })
    }

    /// Address of a host, or of [`CLIENTS`].
    pub fn address(&self, host: &str) -> anyhow::Result<Ipv4Addr> {
        let place = self.place(host)?;
        let last = u8::try_from(place + 1).ok().filter(|_| place < self.namespaces.len());
        Ok(self.subnet.address(last.unwrap_or(CLIENTS_BYTE)))
    }

    /// What to put before a command so that it runs on a host; empty for [`CLIENTS`]. The command
    /// replaces the prefix, in the same process.
    pub fn command_prefix(&self, host: &str) -> anyhow::Result<Vec<String>> {
        let namespace = self.namespaces.get(self.place(host)?);
        Ok(namespace.map(Namespace::command_prefix).unwrap_or_default())
    }

    /// Name of the namespace of a host, as `ip netns` knows it; `None` for [`CLIENTS`].
    pub fn namespace(&self, host: &str) -> anyhow::Result<Option<&str>> {
        Ok(self.namespaces.get(self.place(host)?).map(Namespace::name))
    }

    /// Name of the device through which [`CLIENTS`] are connected.
    pub fn device(&self) -> String {
        self.subnet.device()
    }

    /// Does `work` on a host, in a thread made for it. Sockets that it opens stay on that host,
    /// also when the thread has ended.
    pub fn inside<T: Send>(
        &self,
        host: &str,
        work: impl FnOnce() -> T + Send,
    ) -> anyhow::Result<T> {
        match self.namespaces.get(self.place(host)?) {
            Some(namespace) => namespace.inside(work),
            None => Ok(work()),
        }
    }

    /// The links, to change and to ask.
    pub fn links(&self) -> &Matrix {
        &self.matrix
    }

    /// What every link did so far.
    pub fn counters(&self) -> Vec<(Link, Counts)> {
        self.matrix.all_counts()
    }

    fn place(&self, host: &str) -> anyhow::Result<usize> {
        let place = self.matrix.hosts().iter().position(|known| known == host);
        place.with_context(|| format!("no host named {host}"))
    }
}

/// Whether [`Network`] works here; the error says what is missing. Makes one and removes it.
pub fn supported() -> Result<(), String> {
    if !rustix::process::geteuid().is_root() {
        return Err("network namespaces and TUN devices need root".to_owned());
    }
    if let Err(error) = std::fs::metadata("/dev/net/tun") {
        return Err(format!("no TUN devices: /dev/net/tun: {error}"));
    }
    for (tool, package) in [("ip", "iproute2"), ("nsenter", "util-linux")] {
        let run = Command::new(tool).arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if run.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Err(format!("no {tool} (package {package})"));
        }
    }
    let network = Network::start(&["probe"], 0);
    network.map(|_| ()).map_err(|error| format!("could not make a network: {error:#}"))
}

/// Numbers the networks of this process.
fn next_run() -> u32 {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    RUNS.fetch_add(1, Ordering::Relaxed)
}

/// Commands for `ip` that connect a device.
fn setup(device: &str, address: Ipv4Addr, mtu_bytes: u32) -> String {
    format!(
        "link set dev {device} mtu {mtu_bytes} txqueuelen {QUEUE_PACKETS}\n\
         address add {address}/24 dev {device}\n\
         link set dev {device} up\n"
    )
}
