//! Faults of links: cut, lossy, slow.

use std::time::Duration;

use anyhow::Context;
use rand::Rng;
use rand::seq::SliceRandom;
use serde_json::json;

use super::{Bite, Fault, Field, Step};
use crate::mesh::object::{self, Chaos, Direction, Pods};
use crate::mesh::{Counterpart, Reason, Setting};
use crate::net::{CLIENTS, Counts, Link, Matrix, Quality, preset};

/// Which links are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The leader is alone: neither brokers nor name servers nor clients reach it.
    Leader,
    /// The leader is cut off from the other brokers; clients still reach it.
    LeaderFromPeers,
    /// A follower is alone.
    Follower,
    /// What the leader sends to the other brokers is lost, what they send arrives.
    LeaderOneWayOut,
    /// What the other brokers send to the leader is lost, what it sends arrives.
    LeaderOneWayIn,
    /// Two halves that see each other only through one broker.
    Bridge,
    /// Each of five brokers sees its two neighbours only.
    Ring,
    /// Clients reach no name server.
    NameServers,
}

/// Links carry nothing, in silence, as when a switch fails.
pub struct Partition {
    cut: Cut,
    links: Vec<Link>,
    before: Counts,
}

impl Partition {
    /// Of these links.
    pub fn new(cut: Cut) -> Self {
        Self { cut, links: Vec::new(), before: Counts::default() }
    }

    async fn links(&self, field: &mut Field) -> anyhow::Result<Vec<Link>> {
        let size = field.cluster.size();
        let mut brokers: Vec<String> =
            (0..size).map(|broker| field.cluster.name(broker).to_owned()).collect();
        let leader = brokers[field.cluster.leader().await?].clone();
        brokers.shuffle(&mut field.random);
        let followers: Vec<&str> =
            brokers.iter().map(String::as_str).filter(|broker| *broker != leader).collect();
        let hosts = links_of(field)?.hosts().to_vec();
        let others = |host: &str| -> Vec<String> {
            hosts.iter().filter(|other| *other != host).cloned().collect()
        };
        let alone = |host: &str| {
            let others = others(host);
            preset::isolate(host, &others.iter().map(String::as_str).collect::<Vec<_>>())
        };
        Ok(match self.cut {
            Cut::Leader => alone(&leader),
            Cut::LeaderFromPeers => preset::isolate(&leader, &followers),
            Cut::Follower => alone(followers[0]),
            Cut::LeaderOneWayOut => preset::one_way(&[&leader], &followers),
            Cut::LeaderOneWayIn => preset::one_way(&followers, &[&leader]),
            Cut::Bridge => {
                let half = followers.len() / 2;
                let mut left = followers[..half].to_vec();
                left.push(&leader);
                let (bridge, right) = followers[half..].split_first().context("no bridge")?;
                preset::bridge(&left, bridge, right)
            }
            Cut::Ring => {
                let ring: Vec<&str> = brokers.iter().map(String::as_str).collect();
                preset::ring(&ring)
            }
            Cut::NameServers => {
                let servers: Vec<&str> = hosts
                    .iter()
                    .map(String::as_str)
                    .filter(|it| it.starts_with("namesrv"))
                    .collect();
                let mut links = preset::one_way(&[CLIENTS], &servers);
                links.extend(preset::one_way(&servers, &[CLIENTS]));
                links
            }
        })
    }
}

pub(super) fn links_of(field: &Field) -> anyhow::Result<&Matrix> {
    Ok(field.network.as_ref().context("the drill has no network of its own")?.links())
}

impl Fault for Partition {
    fn name(&self) -> &'static str {
        match self.cut {
            Cut::Leader => "isolate-leader",
            Cut::LeaderFromPeers => "partition-leader",
            Cut::Follower => "isolate-follower",
            Cut::LeaderOneWayOut => "one-way-from-leader",
            Cut::LeaderOneWayIn => "one-way-to-leader",
            Cut::Bridge => "bridge",
            Cut::Ring => "ring",
            Cut::NameServers => "isolate-name-servers",
        }
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "links": self.links.len() })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.links = self.links(field).await?;
            Ok(self.links.iter().map(ToString::to_string).collect())
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            let links = links_of(field)?;
            self.before = links.counts_of(&self.links)?;
            links.cut(&self.links)
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            let links = links_of(field)?;
            links.mend(&self.links)?;
            let Counts { dropped_cut, held_cut, .. } =
                links.counts_of(&self.links)?.since(&self.before);
            Ok(match (dropped_cut, held_cut) {
                (0, 0) => Bite::Missed("nothing was sent over the links that were cut".to_owned()),
                (dropped, 0) => Bite::Bit(format!("{dropped} packets were lost on cut links")),
                // Of each direction of each connection the first; what follows waits behind it.
                (_, held) => Bite::Bit(format!("{held} streams of data were held by cut links")),
            })
        })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        let cut = |pods, direction, target| vec![Chaos::cut(pods, direction, target)];
        let apart = |one: &[usize], other: &[usize]| {
            let target = Some(Pods::Nodes(other.to_vec()));
            Chaos::cut(Pods::Nodes(one.to_vec()), Direction::Both, target)
        };
        let followers = Some(Pods::AllFollowers);
        let chaos = match self.cut {
            Cut::Leader => cut(Pods::Leader, Direction::Both, None),
            Cut::LeaderFromPeers => cut(Pods::Leader, Direction::Both, followers),
            Cut::Follower => cut(Pods::Followers(1), Direction::Both, None),
            Cut::LeaderOneWayOut => cut(Pods::Leader, Direction::To, followers),
            Cut::LeaderOneWayIn => cut(Pods::Leader, Direction::From, followers),
            Cut::Bridge => vec![apart(&[1, 2], &[4, 5])],
            // Each with those beside it; so each is cut from those that are two away.
            Cut::Ring => vec![apart(&[1], &[3, 4]), apart(&[2], &[4, 5]), apart(&[3], &[5])],
            Cut::NameServers => cut(Pods::NameServers, Direction::Both, None),
        };
        let counterpart = Counterpart::of(setting, chaos);
        Ok(match self.cut {
            Cut::NameServers => counterpart.but("Brokers do not reach the name servers either."),
            Cut::Bridge | Cut::Ring => {
                counterpart.but("Brokers have set places in bridge and ring, whoever leads.")
            }
            _ => counterpart,
        })
    }
}

/// What is wrong with a link that still carries something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Packets vanish, come twice, in another order and with flipped bits.
    Lossy,
    /// Packets take long, each another time.
    Slow,
    /// Flipped bits that checksums of the network do not show.
    Corrupt,
}

/// All links between the brokers are bad.
pub struct Degrade {
    trouble: Trouble,
    quality: Quality,
    links: Vec<Link>,
    before: Counts,
}

impl Degrade {
    /// In this way; how much is drawn when it begins.
    pub fn new(trouble: Trouble) -> Self {
        Self { trouble, quality: Quality::PERFECT, links: Vec::new(), before: Counts::default() }
    }
}

impl Fault for Degrade {
    fn name(&self) -> &'static str {
        match self.trouble {
            Trouble::Lossy => "lossy-links",
            Trouble::Slow => "slow-links",
            Trouble::Corrupt => "corrupting-links",
        }
    }

    fn parameters(&self) -> serde_json::Value {
        let Quality { delay, jitter, loss, duplicate, reorder, corrupt, corrupt_checked, .. } =
            self.quality;
        json!({
            "delay_ms": delay.as_millis() as u64,
            "jitter_ms": jitter.as_millis() as u64,
            "loss": loss,
            "duplicate": duplicate,
            "reorder": reorder,
            "corrupt": corrupt,
            "corrupt_checked": corrupt_checked,
        })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            let random = &mut field.random;
            self.quality = match self.trouble {
                Trouble::Lossy => Quality {
                    loss: random.random_range(0.01..0.1),
                    duplicate: 0.05,
                    reorder: 0.05,
                    corrupt: 0.02,
                    ..Quality::PERFECT
                },
                Trouble::Slow => Quality {
                    delay: Duration::from_millis(random.random_range(5..40)),
                    jitter: Duration::from_millis(20),
                    ..Quality::PERFECT
                },
                Trouble::Corrupt => Quality { corrupt_checked: 0.002, ..Quality::PERFECT },
            };
            let brokers: Vec<&str> =
                (0..field.cluster.size()).map(|broker| field.cluster.name(broker)).collect();
            self.links = brokers
                .iter()
                .flat_map(|from| brokers.iter().map(move |to| (from, to)))
                .filter(|(from, to)| from != to)
                .map(|(from, to)| Link::new(from, to))
                .collect();
            Ok(self.links.iter().map(ToString::to_string).collect())
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            let links = links_of(field)?;
            self.before = links.counts_of(&self.links)?;
            for link in &self.links {
                links.set(link, self.quality)?;
            }
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            let links = links_of(field)?;
            links.reset(&self.links)?;
            let done = links.counts_of(&self.links)?.since(&self.before);
            let (what, count) = match self.trouble {
                Trouble::Lossy if done.held_loss > 0 => ("late for being lost", done.held_loss),
                Trouble::Lossy => ("lost", done.dropped_loss),
                Trouble::Slow => ("delayed", done.delayed),
                Trouble::Corrupt => ("corrupted unnoticed by the network", done.corrupted_checked),
            };
            Ok(match count {
                0 => Bite::Missed(format!("no packet was {what}")),
                count => Bite::Bit(format!("{count} packets were {what}")),
            })
        })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        let ms = Duration::from_millis;
        let perfect = object::Quality::default();
        let quality = match self.trouble {
            Trouble::Lossy => perfect.loss(5).duplicate(5).corrupt(2).delay(ms(5), ms(5), 5),
            Trouble::Slow => perfect.delay(ms(20), ms(20), 0),
            Trouble::Corrupt => {
                return Err("Chaos Mesh flips bits that the network's checksums show");
            }
        };
        let bad = Chaos::bad_links(setting.size.brokers, quality);
        Ok(Counterpart::of(setting, [bad])
            .but("How bad links are is not drawn, but the middle of what the drill draws.")
            .but("Services are named with the namespace raftmq: edit them for another one."))
    }
}
