//! Poison: what strangers, scanners, broken clients and misdirected nodes send to open ports.
//!
//! Nothing of it may end a process, take its memory, be stored, or disturb the group.

mod http2;
mod input;
mod stranger;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::input::{Input, Manner};
use super::kernel::MemoryWatch;
use super::{Bite, Fault, Field, Step};
use crate::mesh::{Counterpart, Reason, Setting};
use crate::must;

/// By how much a process may grow.
const GROWTH_BYTES_MAX: u64 = 200 << 20;
/// By how much terms may grow: each election is one.
const TERMS_MAX: u64 = 1000;
/// Inputs on their way at a time.
const WORKERS: u64 = 12;
/// Pause of each worker: what is tried is what the inputs are, not how many fit.
const PAUSE: Duration = Duration::from_millis(4);
/// How long an answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_millis(150);
/// Connections that each worker keeps open in the middle of a word.
const HELD_MAX: usize = 50;

/// The port that gets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// Where clients connect, of every broker.
    Client,
    /// Where brokers talk to each other.
    Peer,
    /// Where operators connect.
    Admin,
    /// Metrics and probes, of brokers and name servers.
    Http,
    /// The name servers'.
    NameServer,
}

/// What was sent, and what came of it.
#[derive(Default)]
struct Tally {
    sent: AtomicU64,
    answered: AtomicU64,
    closed: AtomicU64,
    held: AtomicU64,
    refused: AtomicU64,
}

/// Strangers send garbage to a port of every server.
pub struct Poison {
    door: Door,
    tally: Arc<Tally>,
    stop: CancellationToken,
    workers: JoinSet<()>,
    before: Option<Before>,
}

struct Before {
    inventory: Vec<String>,
    term: u64,
    memory: MemoryWatch,
}

impl Poison {
    /// Through this door.
    pub fn new(door: Door) -> Self {
        Self {
            door,
            tally: Arc::default(),
            stop: CancellationToken::new(),
            workers: JoinSet::new(),
            before: None,
        }
    }

    fn addresses(&self, field: &Field) -> Vec<String> {
        let cluster = &field.cluster;
        match self.door {
            Door::Client => cluster.client_addresses(),
            Door::Peer => cluster.peer_addresses(),
            Door::Admin => cluster.admin_addresses(),
            Door::Http => cluster.http_addresses(),
            Door::NameServer => cluster.endpoints(),
        }
    }
}

impl Fault for Poison {
    fn name(&self) -> &'static str {
        match self.door {
            Door::Client => "poison-client-port",
            Door::Peer => "poison-peer-port",
            Door::Admin => "poison-admin-port",
            Door::Http => "poison-http-port",
            Door::NameServer => "poison-name-server",
        }
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "workers": WORKERS, "growth_bytes_max": GROWTH_BYTES_MAX })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move { Ok(self.addresses(field)) })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            self.before = Some(Before {
                inventory: field.cluster.inventory().await?,
                term: field.cluster.term().await?,
                memory: MemoryWatch::start(field.cluster.pids()),
            });
            let addresses = self.addresses(field);
            for _ in 0..WORKERS {
                let worker = Worker {
                    door: self.door,
                    addresses: addresses.clone(),
                    random: ChaCha8Rng::seed_from_u64(field.random.random()),
                    tally: self.tally.clone(),
                    held: Vec::new(),
                };
                let stop = self.stop.clone();
                self.workers.spawn(async move {
                    stop.run_until_cancelled_owned(worker.run()).await;
                });
            }
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            self.stop.cancel();
            while self.workers.join_next().await.is_some() {}
            let before = self.before.take().context("it has not begun")?;
            let grown_bytes = before.memory.growth_bytes().await?;
            field.cluster.ensure_alive()?;
            let (limit, grown) = (GROWTH_BYTES_MAX >> 20, grown_bytes >> 20);
            must!(grown_bytes < GROWTH_BYTES_MAX, "a server grew by {grown} of {limit} MiB");
            let after = field.cluster.inventory().await?;
            must!(before.inventory == after, "{:?} became {after:?}", before.inventory);
            let (was, is) = (before.term, field.cluster.term().await?);
            must!(is < was.saturating_add(TERMS_MAX), "from term {was} the group came to {is}");

            let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let Tally { sent, answered, closed, held, refused } = &*self.tally;
            let evidence = format!(
                "{} inputs, {} connections were answered, {} closed by the server, {} held open, \
                 {} refused; the largest server grew by {grown} MiB",
                count(sent),
                count(answered),
                count(closed),
                count(held),
                count(refused)
            );
            Ok(match count(answered) + count(closed) {
                0 => Bite::Missed(evidence),
                _ => Bite::Bit(evidence),
            })
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh sends nothing of its own to a port")
    }
}

/// The beginning of a send that says that it is this long; the rest does not come.
pub(super) fn beginning_of_send(length: u32) -> Vec<u8> {
    let path = "/apache.rocketmq.v2.MessagingService/SendMessage";
    let head = [http2::opening(), http2::call_head(1, path, true)].concat();
    [head, http2::message(1, length, &[0; 1000])].concat()
}

/// Sends one input after the other.
struct Worker {
    door: Door,
    addresses: Vec<String>,
    random: ChaCha8Rng,
    tally: Arc<Tally>,
    held: Vec<TcpStream>,
}

impl Worker {
    async fn run(mut self) {
        loop {
            let address = self.addresses[self.random.random_range(0..self.addresses.len())].clone();
            let input = Input::draw(self.door, &mut self.random);
            for _ in 0..input.times {
                // A server may close the door on us at any point; that is what is wanted.
                self.send(&address, &input).await.ok();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn send(&mut self, address: &str, input: &Input) -> std::io::Result<()> {
        let add = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        let mut stream = TcpStream::connect(address).await.inspect_err(|_| {
            add(&self.tally.refused);
        })?;
        add(&self.tally.sent);
        // A server that does not read any more must not hold up the others.
        let written = tokio::time::timeout(ANSWER_LIMIT, stream.write_all(&input.bytes)).await;
        match (written, input.manner) {
            (Ok(Err(_)), _) => _ = add(&self.tally.closed),
            (_, Manner::Leave) => (),
            (_, Manner::Reset) => stream.set_zero_linger()?,
            (_, Manner::Hold) => {
                if self.held.len() < HELD_MAX {
                    add(&self.tally.held);
                    self.held.push(stream);
                }
            }
            (_, Manner::Listen) => self.listen(stream).await,
        }
        Ok(())
    }

    /// Reads until the server closes, or says nothing more.
    async fn listen(&self, mut stream: TcpStream) {
        let (mut bytes, mut answered) = ([0; 4096], false);
        let closed = loop {
            match tokio::time::timeout(ANSWER_LIMIT, stream.read(&mut bytes)).await {
                Ok(Ok(0)) => break true,
                Ok(Ok(_)) => answered = true,
                Ok(Err(error)) => break error.kind() != ErrorKind::Interrupted,
                Err(_) => break false,
            }
        };
        self.tally.answered.fetch_add(u64::from(answered), Ordering::Relaxed);
        self.tally.closed.fetch_add(u64::from(closed), Ordering::Relaxed);
    }
}
