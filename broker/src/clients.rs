//! Clients this node has heard of: who they are and when they were last seen.
//!
//! Every client heartbeats every node of its routes, so each node knows them by itself; nothing here
//! is replicated. A push consumer's messages stay invisible while it lives, and this is where the
//! leader looks.
//!
//! Invariant: at most [`CLIENTS_MAX`]; the longest unseen goes first.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use raftmq_proto::v2;
use raftmq_proto::v2::ClientType;
use raftmq_raft_store::world::time::Instant;
use tokio::sync::mpsc;

/// Clients remembered. An entry is a few hundred bytes.
const CLIENTS_MAX: usize = 100_000;
/// A client that was not heard of for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(120);
/// A client without an open telemetry stream lives on for this long after its last call: two missed
/// heartbeats and some.
const ALIVE_FOR: Duration = Duration::from_secs(25);
/// Topics remembered of one producer.
const TOPICS_MAX: usize = 256;
/// A node that just began to lead can not know yet who lives.
const GRACE: Duration = Duration::from_secs(30);

/// One client instance.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) client_type: ClientType,
    pub(crate) language: String,
    /// The consumer group, or empty.
    pub(crate) group: String,
    pub(crate) seen: Instant,
    /// Open telemetry streams, and where to send what the client is to be told.
    streams: Vec<(u64, mpsc::Sender<v2::TelemetryCommand>)>,
    /// Topics it said it publishes to, or was seen to.
    publishes: BTreeSet<String>,
}

impl Client {
    fn is_connected(&self) -> bool {
        !self.streams.is_empty()
    }
}

/// All clients, by client id.
#[derive(Debug)]
pub struct Clients {
    known: Mutex<HashMap<String, Client>>,
    started: Instant,
    /// Number of the next telemetry stream, and of the next question to producers.
    next: AtomicU64,
}

impl Clients {
    pub(crate) fn new() -> Self {
        Self { known: Mutex::default(), started: Instant::now(), next: AtomicU64::new(0) }
    }

    /// Notes the settings of a client whose telemetry stream has opened (`stream`) or goes on.
    pub(crate) fn settings(&self, id: &str, client_type: ClientType, language: &str, group: &str) {
        let mut known = self.known.lock();
        if known.len() >= CLIENTS_MAX && !known.contains_key(id) {
            forget_oldest(&mut known);
        }
        let client = known.entry(id.to_owned()).or_insert_with(|| Client {
            client_type,
            language: language.to_owned(),
            group: group.to_owned(),
            seen: Instant::now(),
            streams: Vec::new(),
            publishes: BTreeSet::new(),
        });
        client.client_type = client_type;
        client.group = group.to_owned();
        client.seen = Instant::now();
    }

    /// A call came from the client. Returns whether its settings are known.
    pub(crate) fn seen(&self, id: &str) -> bool {
        match self.known.lock().get_mut(id) {
            Some(client) => {
                client.seen = Instant::now();
                true
            }
            None => false,
        }
    }

    /// What kind of client it is, as far as it said so here.
    pub(crate) fn client_type(&self, id: &str) -> Option<ClientType> {
        self.known.lock().get(id).map(|client| client.client_type)
    }

    /// Sends a command to a client that is connected here; returns whether it is.
    pub(crate) fn tell(&self, id: &str, command: v2::TelemetryCommand) -> bool {
        let known = self.known.lock();
        let tell = known.get(id).and_then(|client| client.streams.last());
        tell.is_some_and(|(_, tell)| tell.try_send(command).is_ok())
    }

    /// A telemetry stream of a known client has opened; `tell` leads to it. Returns its number.
    pub(crate) fn stream_opened(
        &self,
        id: &str,
        tell: mpsc::Sender<v2::TelemetryCommand>,
    ) -> Option<u64> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.known.lock().get_mut(id)?.streams.push((number, tell));
        Some(number)
    }

    pub(crate) fn stream_closed(&self, id: &str, number: u64) {
        if let Some(client) = self.known.lock().get_mut(id) {
            client.streams.retain(|(open, _)| *open != number);
        }
    }

    /// Notes topics to which a client publishes: some clients send to topics they did not name.
    pub(crate) fn publishes(&self, id: &str, topics: impl IntoIterator<Item = String>) {
        let mut known = self.known.lock();
        let Some(client) = known.get_mut(id) else { return };
        for topic in topics {
            if client.publishes.len() < TOPICS_MAX {
                client.publishes.insert(topic);
            }
        }
    }

    /// Sends a command to one producer of the topic that is connected here, another one each time;
    /// returns whether there was one.
    pub(crate) fn tell_producer(&self, topic: &str, command: v2::TelemetryCommand) -> bool {
        let known = self.known.lock();
        let mut tells: Vec<_> = known
            .iter()
            .filter(|(_, client)| client.publishes.contains(topic))
            .filter_map(|(id, client)| client.streams.last().map(|(_, tell)| (id, tell)))
            .collect();
        tells.sort_by_key(|(id, _)| *id);
        let first = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        let count = tells.len();
        (0..count).any(|step| tells[(first + step) % count].1.try_send(command.clone()).is_ok())
    }

    /// Forgets the client; returns whether it was known.
    pub(crate) fn remove(&self, id: &str) -> bool {
        self.known.lock().remove(id).is_some()
    }

    /// Whether the client may still be working on what it received.
    pub(crate) fn is_alive(&self, id: &str) -> bool {
        match self.known.lock().get(id) {
            Some(client) => client.is_connected() || client.seen.elapsed() < ALIVE_FOR,
            None => self.started.elapsed() < GRACE,
        }
    }

    /// The clients of a consumer group, by id.
    pub(crate) fn of_group(&self, group: &str) -> Vec<(String, Client)> {
        let known = self.known.lock();
        let mut clients: Vec<_> = known
            .iter()
            .filter(|(_, client)| client.group == group)
            .map(|(id, client)| (id.clone(), client.clone()))
            .collect();
        clients.sort_by(|one, other| one.0.cmp(&other.0));
        clients
    }

    /// Forgets who was not heard of for long, and returns all others.
    pub(crate) fn sweep(&self) -> Vec<Client> {
        let mut known = self.known.lock();
        known.retain(|_, client| client.is_connected() || client.seen.elapsed() < FORGET_AFTER);
        known.values().cloned().collect()
    }
}

fn forget_oldest(known: &mut HashMap<String, Client>) {
    let oldest = known.iter().min_by_key(|(_, client)| client.seen).map(|(id, _)| id.clone());
    if let Some(id) = oldest {
        known.remove(&id);
    }
}
