//! What the controller says of a group: who is master, and who has everything the master has.

use std::collections::BTreeMap;

use anyhow::Context;
use serde::Deserialize;

/// A replica group, as the controller knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// Grows with each new master.
    pub epoch: u64,
    /// Each replica that was ever seen, by the port on which it listens.
    pub by_port: BTreeMap<u16, Replica>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replica {
    /// The controller hears of it.
    pub alive: bool,
    /// It is in the set from which a master is chosen.
    pub in_sync: bool,
    /// It is the master.
    pub master: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    replicas_info_table: BTreeMap<String, Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(default)]
    master_address: Option<String>,
    #[serde(default)]
    master_epoch: Option<u64>,
    #[serde(default)]
    in_sync_replicas: Vec<Identity>,
    #[serde(default)]
    not_in_sync_replicas: Vec<Identity>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    broker_address: String,
    #[serde(default)]
    alive: bool,
}

impl Replicas {
    /// Of the body of an answer about the group `name`.
    pub fn parse(body: &[u8], name: &str) -> anyhow::Result<Self> {
        let mut body: Body = serde_json::from_slice(body)?;
        let group = body.replicas_info_table.remove(name).context("the group is not known")?;
        let master = group.master_address.as_deref().unwrap_or_default();
        let mut by_port = BTreeMap::new();
        for (in_sync, identities) in
            [(true, &group.in_sync_replicas), (false, &group.not_in_sync_replicas)]
        {
            for Identity { broker_address, alive } in identities {
                let port = broker_address.rsplit_once(':').map(|(_, port)| port.parse());
                let port = port.context("an address without a port")??;
                let master = broker_address == master;
                by_port.insert(port, Replica { alive: *alive, in_sync, master });
            }
        }
        Ok(Self { epoch: group.master_epoch.unwrap_or(0), by_port })
    }

    /// The port of the master, if it is alive.
    pub fn master(&self) -> Option<u16> {
        let lives = self.by_port.iter().find(|(_, replica)| replica.master && replica.alive);
        lives.map(|(port, _)| *port)
    }

    /// How many are alive and in sync.
    pub fn in_sync(&self) -> usize {
        self.by_port.values().filter(|replica| replica.alive && replica.in_sync).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Replicas {
        Replicas::parse(json.as_bytes(), "broker").unwrap()
    }

    fn identity(port: u16, alive: bool) -> String {
        format!(
            r#"{{"alive":{alive},"brokerAddress":"127.0.0.1:{port}","brokerId":1,"brokerName":"broker"}}"#
        )
    }

    fn body(master: &str, in_sync: &[String], others: &[String]) -> String {
        format!(
            r#"{{"replicasInfoTable":{{"broker":{{"inSyncReplicas":[{}],"notInSyncReplicas":[{}],{master}"masterEpoch":4,"syncStateSetEpoch":9}}}}}}"#,
            in_sync.join(","),
            others.join(",")
        )
    }

    #[test]
    fn the_master_is_who_the_controller_says() {
        let in_sync = [identity(30, true), identity(33, true)];
        let master = r#""masterAddress":"127.0.0.1:33","masterBrokerId":2,"#;
        let replicas = parse(&body(master, &in_sync, &[identity(36, true)]));
        assert_eq!((replicas.epoch, replicas.master(), replicas.in_sync()), (4, Some(33), 2));
        let lagging = replicas.by_port[&36];
        assert_eq!(lagging, Replica { alive: true, in_sync: false, master: false });
    }

    #[test]
    fn a_master_that_is_not_heard_of_is_none() {
        let master = r#""masterAddress":"127.0.0.1:30","masterBrokerId":1,"#;
        let replicas = parse(&body(master, &[identity(30, false), identity(33, true)], &[]));
        assert_eq!((replicas.master(), replicas.in_sync()), (None, 1));
        // Nor is there one while none is elected.
        assert_eq!(parse(&body("", &[identity(33, true)], &[])).master(), None);
    }

    #[test]
    fn another_group_is_an_error() {
        let json = body("", &[], &[]);
        assert!(Replicas::parse(json.as_bytes(), "other").is_err());
        assert!(Replicas::parse(b"{}", "broker").is_err());
    }
}
