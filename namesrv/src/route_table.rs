//! Who serves what: the latest word of each broker group's leader.
//!
//! Invariants: per group the registration with the highest (term, revision) is kept, and in one
//! term only from one leader; what was not renewed within its time to live is never handed out; the
//! numbers of groups, members and topics are bounded.
//!
//! Not here: the clock (callers pass `now`), locks, gRPC.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::time::Duration;
use std::time::Instant;

use raftmq_proto::names;
use raftmq_proto::raftmq::GroupRoute;
use raftmq_proto::raftmq::ListedRoute;
use raftmq_proto::raftmq::RouteMember;
use raftmq_proto::raftmq::RouteTopic;
use raftmq_proto::route;
use raftmq_proto::route::Shape;
use raftmq_proto::v2::Assignment;
use raftmq_proto::v2::MessageQueue;
use raftmq_proto::v2::Resource;

/// Shortest time to live: below, a single late heartbeat would drop a healthy group.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// Longest time to live: a group that is gone must not attract clients for more than a minute.
pub const TTL_MAX: Duration = Duration::from_secs(60);
/// Groups kept. A group is three machines or so: more than this is not one cluster.
pub const GROUPS_MAX: usize = 1_000;
/// Members of a group: five voters, and room for learners.
pub const MEMBERS_MAX: usize = 15;
/// Topics kept, over all groups: some 60 MB.
pub const TOPICS_MAX: usize = 200_000;
/// Queues of a topic in one group: each is a line of every route answer.
pub const QUEUES_MAX: u32 = 1_024;

/// All routes this name server knows.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// By name of the group, so that answers always list groups in the same order.
    groups: BTreeMap<String, Registered>,
}

#[derive(Debug)]
struct Registered {
    route: GroupRoute,
    /// Position in `route.topics` by name.
    topics: HashMap<String, usize>,
    expires: Instant,
}

/// What a registration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// The group is new, or its leader, members or topics are not what they were.
    Changed,
    /// Nothing new but the time.
    Renewed,
}

/// Why a registration was not taken. The text goes back to the broker and into its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The sender was deposed.
    OlderTerm {
        /// The sender's term.
        term: u64,
        /// The term that is registered.
        known: u64,
        /// Who leads in that term.
        leader_id: u64,
    },
    /// Two nodes claim the same term; Raft rules that out, so something is set up wrongly.
    OtherLeader {
        /// The term both claim.
        term: u64,
        /// The node that was first.
        leader_id: u64,
    },
    /// Overtaken by a later heartbeat of the same leader.
    OlderRevision {
        /// The sender's revision.
        revision: u64,
        /// The revision that is registered.
        known: u64,
    },
    /// Another cluster uses the same group name; their brokers' names would be the same too.
    OtherCluster {
        /// The cluster that was first.
        cluster: String,
    },
    /// A bound is exceeded; both numbers are in the text.
    TooMany(String),
    /// The route contradicts itself.
    Malformed(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::OlderTerm { term, known, leader_id } => {
                write!(f, "term {term} is older than {known}, in which node {leader_id} leads")
            }
            Refusal::OtherLeader { term, leader_id } => {
                write!(
                    f,
                    "in term {term} node {leader_id} already leads; are two clusters mixed up?"
                )
            }
            Refusal::OlderRevision { revision, known } => {
                write!(f, "revision {revision} is older than {known} of the same leader")
            }
            Refusal::OtherCluster { cluster } => {
                write!(
                    f,
                    "cluster {cluster} has registered a group of this name; rename one of them"
                )
            }
            Refusal::TooMany(text) | Refusal::Malformed(text) => f.write_str(text),
        }
    }
}

/// Why there is no route to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoRoute {
    /// No live group has the topic, or would make it.
    UnknownTopic,
    /// There is no live group at all: nothing can be said about any topic.
    NoGroup,
}

impl RouteTable {
    /// Takes a leader's word until `now + ttl`, with `ttl` brought into [`TTL_MIN`]..=[`TTL_MAX`].
    ///
    /// # Errors
    /// A [`Refusal`] when a better registration lives, or this one is malformed or too big. What
    /// was registered before stays as it is.
    pub fn register(
        &mut self,
        route: GroupRoute,
        ttl: Duration,
        now: Instant,
    ) -> Result<Accepted, Refusal> {
        let expires = now + ttl.clamp(TTL_MIN, TTL_MAX);
        if let Some(known) = self.groups.get_mut(&route.group)
            && known.expires > now
        {
            compare(&route, &known.route)?;
            if route == known.route {
                known.expires = expires;
                return Ok(Accepted::Renewed);
            }
        }
        self.check(&route)?;
        let topics = index(&route.topics);
        self.groups.insert(route.group.clone(), Registered { route, topics, expires });
        Ok(Accepted::Changed)
    }

    /// The queues of the topic named by `resource` in all groups that have it, sorted by group,
    /// in each group the leader's first. When none has it, those it will have in the first group
    /// that creates topics when they are sent to; nothing is noted here.
    ///
    /// # Errors
    /// [`NoRoute`] when there is none.
    pub fn message_queues(
        &self,
        resource: &Resource,
        shape: Shape,
        now: Instant,
    ) -> Result<Vec<MessageQueue>, NoRoute> {
        self.collect(&resource.name, now, |group, topic| {
            route::message_queues(group, topic, resource, shape)
        })
    }

    /// What a member of a consumer group may receive from, sorted by group and node.
    ///
    /// # Errors
    /// [`NoRoute`] when there is nothing.
    pub fn assignments(
        &self,
        resource: &Resource,
        shape: Shape,
        now: Instant,
    ) -> Result<Vec<Assignment>, NoRoute> {
        self.collect(&resource.name, now, |group, topic| {
            route::assignments(group, topic, resource, shape)
        })
    }

    /// Client addresses of the leaders of all groups that have the topic, sorted by group.
    ///
    /// # Errors
    /// [`NoRoute`] when there is none.
    pub fn leaders(&self, resource: &Resource, now: Instant) -> Result<Vec<String>, NoRoute> {
        self.collect(&resource.name, now, |group, _| {
            let leads = |member: &&RouteMember| member.node_id == group.leader_id;
            let leader = group.members.iter().find(leads);
            leader.map(|member| member.client_address.clone()).into_iter().collect()
        })
    }

    /// Client addresses of the members of each group that has the topic, the leader's first.
    ///
    /// # Errors
    /// [`NoRoute`] when there is none.
    pub fn members(&self, resource: &Resource, now: Instant) -> Result<Vec<Vec<String>>, NoRoute> {
        self.collect(&resource.name, now, |group, _| {
            let mut members: Vec<&RouteMember> = group.members.iter().collect();
            members.sort_by_key(|member| (member.node_id != group.leader_id, member.node_id));
            vec![members.into_iter().map(|member| member.client_address.clone()).collect()]
        })
    }

    /// Everything that lives at `now`, sorted by group.
    pub fn list(&self, now: Instant) -> Vec<ListedRoute> {
        self.live(now)
            .map(|known| ListedRoute {
                route: Some(known.route.clone()),
                expires_in_ms: known.expires.duration_since(now).as_millis() as u64,
            })
            .collect()
    }

    /// Forgets what is no longer alive and returns the names of those groups.
    pub fn expire(&mut self, now: Instant) -> Vec<String> {
        self.groups.extract_if(.., |_, known| known.expires <= now).map(|(name, _)| name).collect()
    }

    /// Groups and topics in memory, expired ones included until [`RouteTable::expire`].
    pub fn size(&self) -> (usize, usize) {
        (self.groups.len(), self.groups.values().map(|known| known.topics.len()).sum())
    }

    fn live(&self, now: Instant) -> impl Iterator<Item = &Registered> {
        self.groups.values().filter(move |known| known.expires > now)
    }

    fn collect<T>(
        &self,
        topic: &str,
        now: Instant,
        lines: impl Fn(&GroupRoute, &RouteTopic) -> Vec<T>,
    ) -> Result<Vec<T>, NoRoute> {
        let mut any_group = false;
        let mut maker = None;
        let mut found = Vec::new();
        for known in self.live(now) {
            any_group = true;
            maker = maker.or(Some(&known.route).filter(|route| route.auto_create_topics));
            if let Some(&position) = known.topics.get(topic) {
                found.extend(lines(&known.route, &known.route.topics[position]));
            }
        }
        if let (true, Some(maker)) = (found.is_empty(), maker)
            && names::new_topic(topic).is_ok()
        {
            return Ok(lines(maker, &route::auto_created(topic)));
        }
        match (found.is_empty(), any_group) {
            (false, _) => Ok(found),
            (true, true) => Err(NoRoute::UnknownTopic),
            (true, false) => Err(NoRoute::NoGroup),
        }
    }

    /// Everything about a new route that does not depend on who is right.
    fn check(&self, route: &GroupRoute) -> Result<(), Refusal> {
        check_members(route)?;
        check_topics(&route.topics)?;
        let known = self.groups.get(&route.group);
        if known.is_none() && self.groups.len() >= GROUPS_MAX {
            return Err(Refusal::TooMany(format!("{GROUPS_MAX} groups are registered already")));
        }
        let (_, all) = self.size();
        let others = all - known.map_or(0, |known| known.topics.len());
        if others + route.topics.len() > TOPICS_MAX {
            return Err(Refusal::TooMany(format!(
                "{} topics and {others} of other groups are more than {TOPICS_MAX}",
                route.topics.len()
            )));
        }
        Ok(())
    }
}

/// Which of two registrations of a group is to be believed.
fn compare(new: &GroupRoute, known: &GroupRoute) -> Result<(), Refusal> {
    if new.cluster != known.cluster {
        return Err(Refusal::OtherCluster { cluster: known.cluster.clone() });
    }
    if new.term < known.term {
        return Err(Refusal::OlderTerm {
            term: new.term,
            known: known.term,
            leader_id: known.leader_id,
        });
    }
    if new.term > known.term {
        return Ok(());
    }
    if new.leader_id != known.leader_id {
        return Err(Refusal::OtherLeader { term: known.term, leader_id: known.leader_id });
    }
    if new.revision < known.revision {
        return Err(Refusal::OlderRevision { revision: new.revision, known: known.revision });
    }
    Ok(())
}

fn check_members(route: &GroupRoute) -> Result<(), Refusal> {
    if route.group.is_empty() || route.cluster.is_empty() {
        return Err(Refusal::Malformed("the group or the cluster has no name".to_owned()));
    }
    if route.members.len() > MEMBERS_MAX {
        return Err(Refusal::TooMany(format!(
            "{} members are more than {MEMBERS_MAX}",
            route.members.len()
        )));
    }
    if !route.members.iter().any(|member| member.node_id == route.leader_id) {
        return Err(Refusal::Malformed(format!(
            "the leader, node {}, is not among the members",
            route.leader_id
        )));
    }
    // Clients can not do anything with an address they can not parse.
    match route.members.iter().find(|member| route::endpoints(&member.client_address).is_none()) {
        Some(member) => Err(Refusal::Malformed(format!(
            "the client address {:?} of node {} is not host:port",
            member.client_address, member.node_id
        ))),
        None => Ok(()),
    }
}

fn check_topics(topics: &[RouteTopic]) -> Result<(), Refusal> {
    for topic in topics {
        names::topic(&topic.name).map_err(|error| Refusal::Malformed(error.to_string()))?;
        if topic.queue_count > QUEUES_MAX {
            return Err(Refusal::TooMany(format!(
                "{} queues of topic {} are more than {QUEUES_MAX}",
                topic.queue_count, topic.name
            )));
        }
    }
    Ok(())
}

fn index(topics: &[RouteTopic]) -> HashMap<String, usize> {
    topics.iter().enumerate().map(|(position, topic)| (topic.name.clone(), position)).collect()
}

#[cfg(test)]
#[path = "route_table_test.rs"]
mod tests;
