//! Clients this node has heard of: who they are and when they were last seen.
//!
//! Every client heartbeats every node of its routes, so each node knows them by itself; nothing here
//! is replicated. A push consumer's messages stay invisible while it lives, and this is where the
//! leader looks.
//!
//! Invariant: at most [`CLIENTS_MAX`]; the longest unseen goes first.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use raftmq_proto::v2::ClientType;
use raftmq_raft_store::world::time::Instant;

/// Clients remembered. An entry is a few hundred bytes.
const CLIENTS_MAX: usize = 100_000;
/// A client that was not heard of for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(120);
/// A client without an open telemetry stream lives on for this long after its last call: two missed
/// heartbeats and some.
const ALIVE_FOR: Duration = Duration::from_secs(25);
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
    /// Open telemetry streams.
    pub(crate) streams: u32,
}

/// All clients, by client id.
#[derive(Debug)]
pub struct Clients {
    known: Mutex<HashMap<String, Client>>,
    started: Instant,
}

impl Clients {
    pub(crate) fn new() -> Self {
        Self { known: Mutex::default(), started: Instant::now() }
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
            streams: 0,
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

    pub(crate) fn stream_opened(&self, id: &str) {
        if let Some(client) = self.known.lock().get_mut(id) {
            client.streams += 1;
        }
    }

    pub(crate) fn stream_closed(&self, id: &str) {
        if let Some(client) = self.known.lock().get_mut(id) {
            client.streams = client.streams.saturating_sub(1);
        }
    }

    /// Forgets the client; returns whether it was known.
    pub(crate) fn remove(&self, id: &str) -> bool {
        self.known.lock().remove(id).is_some()
    }

    /// Whether the client may still be working on what it received.
    pub(crate) fn is_alive(&self, id: &str) -> bool {
        match self.known.lock().get(id) {
            Some(client) => client.streams > 0 || client.seen.elapsed() < ALIVE_FOR,
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
        known.retain(|_, client| client.streams > 0 || client.seen.elapsed() < FORGET_AFTER);
        known.values().cloned().collect()
    }
}

fn forget_oldest(known: &mut HashMap<String, Client>) {
    let oldest = known.iter().min_by_key(|(_, client)| client.seen).map(|(id, _)| id.clone());
    if let Some(id) = oldest {
        known.remove(&id);
    }
}
