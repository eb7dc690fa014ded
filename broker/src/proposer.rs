//! Turns decisions into log entries: what waits together becomes one entry.
//!
//! Step: 3 of the message path. While entries are on their way, new commands gather; there is no
//! waiting when nothing is under way.
//!
//! Invariants: commands enter the log in the order they were submitted; an entry holds at most
//! [`ENTRY_BYTES_MAX`] (unless one command alone is larger) and `COMMANDS_MAX` commands; the time in
//! entries never goes back within a leadership.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use parking_lot::RwLock;
use raftmq_raft_store::GroupHandle;
use raftmq_raft_store::ProposeError;
use raftmq_raft_store::Reply;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use raftmq_raft_store::world;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::clock;
use crate::command;
use crate::command::COMMANDS_MAX;
use crate::command::Command;
use crate::state::CommandReply;
use crate::state::State;

/// Bytes of commands in one entry, before a further one is begun.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Entries under way. More would only make them smaller: the disk takes one flush at a time.
const ENTRIES_UNDER_WAY: usize = 3;
/// Commands that may wait. More, and callers wait for a place.
const QUEUE_LENGTH: usize = 8192;

/// The outcome of a command.
pub type Outcome = Result<CommandReply, ProposeError>;

struct Proposal {
    command: Bytes,
    reply: oneshot::Sender<Outcome>,
}

/// Where commands are submitted. Cheap to clone.
#[derive(Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Proposal>,
}

/// A place in the queue: submitting to it does not wait, so it can be done under a lock.
pub struct Place(mpsc::OwnedPermit<Proposal>);

impl Place {
    /// Submits `command`; the outcome comes later.
    pub fn submit(self, command: &Command) -> Submitted {
        let (reply, outcome) = oneshot::channel();
        self.0.send(Proposal { command: command::encode(command), reply });
        Submitted(outcome)
    }
}

/// A command on its way.
pub struct Submitted(oneshot::Receiver<Outcome>);

impl Submitted {
    /// Waits for the outcome.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn outcome(self) -> Outcome {
        self.0.await.unwrap_or_else(|_| Err(ProposeError::Stopped("the proposer ended".to_owned())))
    }
}

impl Proposer {
    /// Begins proposing to `group`. Ends when the last handle is dropped.
    pub fn start(group: GroupHandle, state: Arc<RwLock<State>>) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_LENGTH);
        world::task::spawn(run(group, state, waiting));
        Self { queue }
    }

    /// Waits for a place in the queue.
    ///
    /// # Errors
    /// The node is ending.
    pub async fn place(&self) -> Result<Place, ProposeError> {
        let permit = self.queue.clone().reserve_owned().await;
        permit.map(Place).map_err(|_| ProposeError::Stopped("the proposer ended".to_owned()))
    }

    /// Submits `command` and waits for its outcome.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, command: &Command) -> Outcome {
        self.place().await?.submit(command).outcome().await
    }
}

async fn run(group: GroupHandle, state: Arc<RwLock<State>>, mut waiting: mpsc::Receiver<Proposal>) {
    let mut under_way = FuturesOrdered::new();
    let mut held: Option<Proposal> = None;
    let mut last_ms = 0;
    loop {
        let may_begin = under_way.len() < ENTRIES_UNDER_WAY;
        tokio::select! {
            biased;
            Some(()) = under_way.next(), if !under_way.is_empty() => (),
            first = next(&mut held, &mut waiting), if may_begin => {
                let Some(first) = first else { break };
                let batch = gather(first, &mut held, &mut waiting);
                last_ms = clock::not_before(state.read().time_ms.max(last_ms));
                if planted(Bug::TimeGoesBack) {
                    last_ms = clock::wall_ms();
                }
                under_way.push_back(propose(&group, last_ms, batch).await);
            }
        }
    }
    while under_way.next().await.is_some() {}
}

async fn next(
    held: &mut Option<Proposal>,
    waiting: &mut mpsc::Receiver<Proposal>,
) -> Option<Proposal> {
    match held.take() {
        Some(proposal) => Some(proposal),
        None => waiting.recv().await,
    }
}

/// Everything that waits and fits in one entry; what does not is held for the next.
fn gather(
    first: Proposal,
    held: &mut Option<Proposal>,
    waiting: &mut mpsc::Receiver<Proposal>,
) -> Vec<Proposal> {
    let mut bytes = first.command.len();
    let mut batch = vec![first];
    while batch.len() < COMMANDS_MAX {
        let Ok(proposal) = waiting.try_recv() else { break };
        bytes += proposal.command.len();
        if bytes > ENTRY_BYTES_MAX {
            *held = Some(proposal);
            break;
        }
        batch.push(proposal);
    }
    batch
}

/// Hands one entry to Raft; the returned future answers its proposals.
async fn propose(
    group: &GroupHandle,
    time_ms: u64,
    batch: Vec<Proposal>,
) -> impl Future<Output = ()> + Send + use<> {
    metrics::histogram!("raftmq_commands_per_entry").record(batch.len() as f64);
    let (commands, replies): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|proposal| (proposal.command, proposal.reply)).unzip();
    // Handed over before the next entry is gathered, so that the log keeps the order.
    let entry = group.submit(command::encode_entry(time_ms, &commands)).await;
    async move {
        let outcome = match entry {
            Ok(applied) => applied.await,
            Err(error) => Err(error),
        };
        match outcome.map(|reply| replies_of(reply, replies.len())) {
            Ok(outcomes) => {
                for (reply, outcome) in replies.into_iter().zip(outcomes) {
                    // Whoever asked may have gone.
                    let _ = reply.send(Ok(outcome));
                }
            }
            Err(error) => {
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }
}

fn replies_of(reply: Reply, count: usize) -> Vec<CommandReply> {
    let replies = reply.0.and_then(|reply| reply.downcast::<Vec<CommandReply>>().ok());
    match replies {
        Some(replies) if replies.len() == count => *replies,
        _ => panic!("an entry of {count} commands was answered with something else"),
    }
}
