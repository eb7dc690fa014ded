//! The configuration files of a group, as text. Whatever is not named here has Apache's default.

use std::fmt::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The one cluster, and the one replica group in it.
pub const CLUSTER: &str = "compare";
/// See [`CLUSTER`].
pub const GROUP: &str = "broker";

/// How durable the brokers are asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// As released: the master acknowledges what it has in memory, replicas follow.
    Defaults,
    /// An acknowledged message is flushed at the master, and each replica in sync has it, at least
    /// one besides the master.
    Strict,
}

impl Setting {
    /// The keys that it adds to a broker's configuration.
    pub fn keys(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Defaults => &[],
            Self::Strict => &[
                ("flushDiskType", "SYNC_FLUSH"),
                ("allAckInSyncStateSet", "true"),
                ("minInSyncReplicas", "2"),
            ],
        }
    }

    /// The same in words.
    pub fn flush(self) -> &'static str {
        match self {
            Self::Defaults => "async",
            Self::Strict => "sync",
        }
    }
}

/// Ports of the servers, all on loopback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Of name servers: routes.
    pub name_servers: Vec<u16>,
    /// Of the controllers in them.
    pub controllers: Vec<u16>,
    /// Of brokers: clients; each also takes the port two below it.
    pub brokers: Vec<u16>,
    /// Of brokers: replicas.
    pub replicas: Vec<u16>,
    /// Of the proxy: clients by gRPC.
    pub grpc: u16,
    /// Of the proxy: clients by the older protocol, which nobody uses here.
    pub remoting: u16,
}

impl Ports {
    /// Addresses of name servers, as configuration wants them.
    pub fn name_servers(&self) -> String {
        addresses(&self.name_servers)
    }
}

/// A name server with its controller.
pub fn name_server(number: usize, ports: &Ports, data: &Path) -> String {
    let peers = ports.controllers.iter().enumerate();
    let peers: Vec<String> = peers.map(|(id, port)| format!("n{id}-127.0.0.1:{port}")).collect();
    render(&[
        ("listenPort", ports.name_servers[number].to_string()),
        ("bindAddress", "127.0.0.1".to_owned()),
        ("enableControllerInNamesrv", "true".to_owned()),
        ("controllerDLegerGroup", "controllers".to_owned()),
        ("controllerDLegerPeers", peers.join(";")),
        ("controllerDLegerSelfId", format!("n{number}")),
        ("controllerStorePath", data.join("controller").display().to_string()),
        ("configStorePath", data.join("namesrv.properties").display().to_string()),
    ])
}

/// A broker of the group. Who is master, and each one's id, is the controller's word.
pub fn broker(number: usize, ports: &Ports, setting: Setting, data: &Path) -> String {
    let mut pairs = vec![
        ("brokerClusterName", CLUSTER.to_owned()),
        ("brokerName", GROUP.to_owned()),
        ("brokerId", "-1".to_owned()),
        ("brokerRole", "SLAVE".to_owned()),
        ("enableControllerMode", "true".to_owned()),
        ("controllerAddr", addresses(&ports.controllers)),
        ("namesrvAddr", ports.name_servers()),
        ("brokerIP1", "127.0.0.1".to_owned()),
        ("brokerIP2", "127.0.0.1".to_owned()),
        ("bindAddress", "127.0.0.1".to_owned()),
        ("listenPort", ports.brokers[number].to_string()),
        ("haListenPort", ports.replicas[number].to_string()),
        ("storePathRootDir", data.display().to_string()),
        ("storePathCommitLog", data.join("commitlog").display().to_string()),
        // Files of 1 GiB are for machines that have them.
        ("mappedFileSizeCommitLog", (64 << 20).to_string()),
        ("autoCreateTopicEnable", "false".to_owned()),
    ];
    pairs.extend(setting.keys().iter().map(|(key, value)| (*key, (*value).to_owned())));
    render(&pairs)
}

/// The proxy, which speaks gRPC with clients and keeps nothing.
pub fn proxy(ports: &Ports) -> String {
    let fields = serde_json::json!({
        "rocketMQClusterName": CLUSTER,
        "proxyMode": "CLUSTER",
        "namesrvAddr": ports.name_servers(),
        "grpcServerPort": ports.grpc,
        "remotingListenPort": ports.remoting,
    });
    fields.to_string()
}

fn addresses(ports: &[u16]) -> String {
    let addresses: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    addresses.join(";")
}

fn render(pairs: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        // Writing to a string can not fail.
        let _written = writeln!(text, "{key}={value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> Ports {
        Ports {
            name_servers: vec![10, 11, 12],
            controllers: vec![20, 21, 22],
            brokers: vec![30, 33, 36],
            replicas: vec![31, 34, 37],
            grpc: 40,
            remoting: 41,
        }
    }

    #[test]
    fn controllers_know_each_other_and_themselves() {
        let text = name_server(1, &ports(), Path::new("/run/namesrv-2"));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.contains(&"listenPort=11"), "{text}");
        assert!(lines.contains(&"enableControllerInNamesrv=true"));
        let peers = "controllerDLegerPeers=n0-127.0.0.1:20;n1-127.0.0.1:21;n2-127.0.0.1:22";
        assert!(lines.contains(&peers), "{text}");
        assert!(lines.contains(&"controllerDLegerSelfId=n1"));
        assert!(lines.contains(&"controllerStorePath=/run/namesrv-2/controller"));
    }

    #[test]
    fn brokers_differ_in_their_ports_and_directories_only() {
        let one = broker(0, &ports(), Setting::Defaults, Path::new("/run/broker-1"));
        let two = broker(1, &ports(), Setting::Defaults, Path::new("/run/broker-2"));
        let differ: Vec<&str> = two.lines().filter(|line| !one.contains(line)).collect();
        assert_eq!(
            differ,
            [
                "listenPort=33",
                "haListenPort=34",
                "storePathRootDir=/run/broker-2",
                "storePathCommitLog=/run/broker-2/commitlog",
            ]
        );
        assert!(one.contains("controllerAddr=127.0.0.1:20;127.0.0.1:21;127.0.0.1:22\n"));
        assert!(one.contains("namesrvAddr=127.0.0.1:10;127.0.0.1:11;127.0.0.1:12\n"));
    }

    #[test]
    fn the_settings_differ_in_durability_only() {
        let defaults = broker(0, &ports(), Setting::Defaults, Path::new("/run/broker-1"));
        let strict = broker(0, &ports(), Setting::Strict, Path::new("/run/broker-1"));
        let added = strict.strip_prefix(&defaults).unwrap_or_default();
        assert_eq!(
            added,
            "flushDiskType=SYNC_FLUSH\nallAckInSyncStateSet=true\nminInSyncReplicas=2\n"
        );
    }

    #[test]
    fn the_proxy_has_json() {
        let fields: serde_json::Value = serde_json::from_str(&proxy(&ports())).unwrap_or_default();
        assert_eq!(fields["grpcServerPort"], 40);
        assert_eq!(fields["namesrvAddr"], "127.0.0.1:10;127.0.0.1:11;127.0.0.1:12");
    }
}
