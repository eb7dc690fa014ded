//! Where faults are made: a cluster, and what it stands on.

use std::sync::Arc;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::cluster::Cluster;
use crate::disk::shim::Shim;
use crate::disk::volume::Volume;
use crate::drill::{Drill, Need, Options};
use crate::load::Surge;
use crate::net::{Way, Wires};
use crate::place::Place;

/// Enough for a drill, small enough to fill.
const VOLUME_BYTES: u64 = 512 << 20;

/// Where faults are made.
pub struct Field {
    // Dropped in this order: processes before what they stand on.
    /// The processes.
    pub cluster: Cluster,
    /// By broker, when the drill needs them.
    pub shims: Vec<Shim>,
    /// By broker, when the drill needs them.
    pub volumes: Vec<Volume>,
    /// Hosts are named as the servers, when the drill needs a network.
    pub network: Option<Wires>,
    /// When the workload [`crate::load::Flood`] sends.
    pub surge: Arc<Surge>,
    /// Chance. The only source of it for faults.
    pub random: ChaCha8Rng,
}

impl Field {
    /// Makes what the drill needs, and starts its cluster on it.
    ///
    /// # Errors
    /// The machine lacks something, or a server did not get ready.
    pub async fn start(drill: &Drill, options: &Options) -> anyhow::Result<Self> {
        let directory = &options.directory;
        let size = drill.size;
        let brokers: Vec<String> = (1..=size.brokers).map(|id| format!("broker-{id}")).collect();
        let name_servers = (1..=size.name_servers).map(|number| format!("namesrv-{number}"));
        let hosts: Vec<String> = name_servers.chain(brokers.iter().cloned()).collect();
        let needs = |need| drill.needs.contains(&need);

        let network = if needs(Need::Network) {
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            let way = options.network.unwrap_or_else(Way::best);
            Some(Wires::start(way, &hosts, options.seed)?)
        } else {
            None
        };
        let mut volumes = Vec::new();
        let mut shims = Vec::new();
        for broker in &brokers {
            if needs(Need::Volumes) {
                volumes.push(Volume::create(directory, &format!("{broker}.disk"), VOLUME_BYTES)?);
            }
            if needs(Need::Shim) {
                shims.push(Shim::create()?);
            }
        }

        let mut places = Vec::new();
        for host in &hosts {
            let mut place = Place::loopback(directory, host);
            match &network {
                Some(Wires::Namespaces(network)) => {
                    place.host = network.address(host)?;
                    place.own_host = true;
                    place.prefix = network.command_prefix(host)?;
                }
                Some(Wires::Proxies(proxies)) => place.front = Some(proxies.front(host)),
                None => (),
            }
            if let Some(number) = brokers.iter().position(|broker| broker == host) {
                place.environment.clone_from(&options.environment);
                if let Some(volume) = volumes.get(number) {
                    place.data_directory = volume.path().join("data");
                }
                if let Some(shim) = shims.get(number) {
                    let pairs = shim.environment().into_iter();
                    let pair = |(name, value): (&str, std::ffi::OsString)| {
                        (name.to_owned(), value.to_string_lossy().into_owned())
                    };
                    place.environment.extend(pairs.map(pair));
                }
            }
            places.push((host.clone(), place));
        }
        let broker_options: Vec<String> =
            drill.broker_options.iter().map(|option| (*option).to_owned()).collect();
        let place = |name: &str| {
            let found = places.iter().find(|(host, _)| host == name);
            found.map_or_else(|| Place::loopback(directory, name), |(_, place)| place.clone())
        };
        let cluster = Cluster::start_at(directory, size, &broker_options, place).await?;
        let random = ChaCha8Rng::seed_from_u64(options.seed.rotate_left(32));
        Ok(Self { cluster, shims, volumes, network, surge: Arc::default(), random })
    }

    /// Undoes everything that a fault may have left, and starts what is down.
    pub async fn heal(&mut self) -> anyhow::Result<()> {
        self.surge.set(false);
        if let Some(network) = &self.network {
            network.links().heal();
        }
        for shim in &mut self.shims {
            shim.reset()?;
        }
        for volume in &self.volumes {
            volume.release()?;
        }
        for broker in 0..self.cluster.size() {
            self.cluster.ended(broker)?;
            if !self.cluster.is_up(broker) {
                self.cluster.restart(broker)?;
            }
        }
        for number in 0..self.cluster.name_server_count() {
            if !self.cluster.is_name_server_up(number) {
                self.cluster.restart_name_server(number)?;
            }
        }
        Ok(())
    }
}
