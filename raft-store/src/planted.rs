//! Bugs planted on purpose, to show that the chaos harness catches them.
//!
//! A harness that never caught anything proves nothing. With the cargo feature `planted-bugs` the
//! environment variable `RAFTMQ_PLANTED_BUG` turns one of these bugs on; without the feature
//! [`planted`] is the constant `false` and the compiler removes what stands behind it. All bugs of the
//! workspace are named here, those of the broker too, so that there is one list.
//!
//! Not here: the drills (`chaos-tests`), and what is wrong (at the place where the mistake would be
//! made: look for `planted(`).

/// Whether this process has the bug.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
pub use self::active::VARIABLE;
#[cfg(feature = "planted-bugs")]
pub use self::active::active;
#[cfg(feature = "planted-bugs")]
pub use self::active::planted;

macro_rules! bugs {
    ($(
        $(#[doc = $wrong:literal])+
        $bug:ident = $name:literal, breaks: $promise:literal, drill: $drill:literal;
    )+) => {
        /// A planted bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $(
                $(#[doc = $wrong])+
                ///
                #[doc = concat!("Breaks: ", $promise, ". Caught by the drill `", $drill, "`.")]
                $bug,
            )+
        }

        #[cfg(feature = "planted-bugs")]
        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$bug),+];

            /// As in the environment variable.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)+ }
            }

            /// What is wrong.
            pub fn description(self) -> &'static str {
                match self { $(Self::$bug => concat!($($wrong),+).trim_start(),)+ }
            }

            /// The promise it breaks.
            pub const fn promise(self) -> &'static str {
                match self { $(Self::$bug => $promise,)+ }
            }

            /// The drill that must catch it.
            pub const fn drill(self) -> &'static str {
                match self { $(Self::$bug => $drill,)+ }
            }
        }
    };
}

bugs! {
    // The log.

    /// Appends count as done after the write; the flush follows within 200 ms, as with
    /// `flush = async`.
    AckBeforeFsync = "ack-before-fsync",
        breaks: "acknowledged is on the disks of a majority",
        drill: "power-cut-all";
    /// Appends count as done when they are handed to the writer thread, before they are in a file.
    AckBeforeWrite = "ack-before-write",
        breaks: "acknowledged survives the end of processes",
        drill: "kill-while-flushing";
    /// A failed flush is logged and treated as done.
    FlushErrorIgnored = "flush-error-ignored",
        breaks: "nothing is acknowledged after a failed flush; the process ends",
        drill: "flush-error";
    /// The vote is written, but neither its file nor its directory is flushed.
    SkipVoteFsync = "skip-vote-fsync",
        breaks: "a node votes once in a term",
        drill: "false-candidates";
    /// The vote is kept in memory and reaches the disk with the next purge.
    VoteInMemory = "vote-in-memory",
        breaks: "a node votes once in a term",
        drill: "kill-all";
    /// A start cuts the log at the first damaged frame, wherever that is.
    TruncateOnCrcError = "truncate-on-crc-error",
        breaks: "damage before the tail, or below the synced mark, stops the start",
        drill: "damaged-log";
    /// The checksum of a frame is not compared: a torn or damaged frame counts as intact.
    ChecksumNotCompared = "checksum-not-compared",
        breaks: "damaged bytes are never served",
        drill: "damaged-log";

    // Raft.

    /// A follower that does not answer an append counts as having it: the leader commits alone.
    CommitWithoutMajority = "commit-without-majority",
        breaks: "committed is on a majority",
        drill: "partitions";
    /// A vote is granted to a candidate whose log is shorter than the voter's.
    VoteForShorterLog = "vote-for-shorter-log",
        breaks: "a leader has everything committed",
        drill: "false-candidates";
    /// A voter whose disk was emptied takes part again under its old id without asking the group.
    EmptiedNodeVotes = "emptied-node-votes",
        breaks: "a node with an empty disk answers no Raft message",
        drill: "amnesia";
    /// A new leader serves before it has applied what was committed before its term.
    ServeBeforeApplied = "serve-before-applied",
        breaks: "what was acknowledged is seen at every later leader",
        drill: "late-leader";
    /// A node that was a leader once goes on as if it were: it relays nothing to the next one.
    ServeAsDeposedLeader = "serve-as-deposed-leader",
        breaks: "any node answers any client",
        drill: "pause-leader";
    /// A leader whose disk hangs keeps leading.
    StalledDiskIgnored = "stalled-disk-ignored",
        breaks: "a stalled disk of one node stops the group for seconds only",
        drill: "hung-disk";
    /// A replica that does not lead leaves out the commands of every hundredth entry.
    FollowerSkipsEntry = "follower-skips-entry",
        breaks: "all replicas have the same state",
        drill: "kill-leader";
    /// A Raft message counts whomever it is for, and whatever its term.
    StrangerBelieved = "stranger-believed",
        breaks: "nodes of other groups do not disturb a group",
        drill: "poison";
    /// A failure to accept a peer, such as a lack of descriptors, is tried again without a pause.
    AcceptErrorSpins = "accept-error-spins",
        breaks: "who is connected goes on while there are no descriptors",
        drill: "starved-descriptors";
    /// An installed snapshot brings the tables but not the messages that came with them.
    SnapshotWithoutMessages = "snapshot-without-messages",
        breaks: "what is acknowledged and kept can be read at every leader",
        drill: "lagging-node";

    // The broker.

    /// Deliveries in flight are forgotten when a snapshot is installed.
    SnapshotForgetsInflight = "snapshot-forgets-inflight",
        breaks: "what was handed out and not acknowledged comes back",
        drill: "lagging-node";
    /// The progress of a group is written once in 32 messages; between that it is in memory only.
    OffsetPersistedLate = "offset-persisted-late",
        breaks: "progress never goes back",
        drill: "rolling-restart";
    /// The next offset of a queue is restored one too low: the last one is given out twice.
    QueueOffsetReused = "queue-offset-reused",
        breaks: "each offset of a queue has one message for ever",
        drill: "rolling-restart";
    /// The time of an entry is the leader's clock as it is, even when it goes back.
    TimeGoesBack = "time-goes-back",
        breaks: "time in the state never goes back",
        drill: "clock-jump";
    /// A leader recognizes only those repeated sends that it stored itself.
    DedupNotReplicated = "dedup-not-replicated",
        breaks: "a repeated message id is stored once",
        drill: "kill-leader";
    /// Message ids are remembered for 2 s instead of 10 min.
    MessageIdWindowTooShort = "message-id-window-too-short",
        breaks: "a message id repeated within 10 min is stored once",
        drill: "pause-leader";
    /// Retention lets go of messages that consumers hold and of young dead letters.
    RetentionPastUnread = "retention-past-unread",
        breaks: "nothing goes that a consumer holds",
        drill: "lagging-node";
    /// An old receipt acknowledges the present delivery of its message.
    AckWrongAttempt = "ack-wrong-attempt",
        breaks: "a receipt speaks for one delivery",
        drill: "redelivery";
    /// A redelivery does not count as an attempt.
    LostAttemptCount = "lost-attempt-count",
        breaks: "after the attempts of its group a message is a dead letter",
        drill: "nothing";
    /// The first dead letter of a group makes the topic for it and is lost.
    DeadLetterDropped = "dead-letter-dropped",
        breaks: "a message a group gave up on is among its dead letters",
        drill: "dead-letters-kills";
    /// Creating a topic is answered before it is committed.
    TopicCreateNotReplicated = "topic-create-not-replicated",
        breaks: "an acknowledged change of topics survives the leader",
        drill: "partitions";
    /// A new leader makes everything in flight visible at once.
    DoubleDeliveryOnFailover = "double-delivery-on-failover",
        breaks: "a message is with one consumer at a time",
        drill: "kill-leader";

    // What messages can do.

    /// A later message of a message group is handed out while an earlier one is out.
    FifoGroupIgnored = "fifo-group-ignored",
        breaks: "messages of a message group come one after the other",
        drill: "fifo-kills";
    /// A new leader does not know of which message groups something is out.
    FifoOrderLostOnFailover = "fifo-order-lost-on-failover",
        breaks: "messages of a message group come one after the other",
        drill: "fifo-kills";
    /// While something of a message group is out, nothing comes of its whole queue.
    FifoQueueBlocked = "fifo-queue-blocked",
        breaks: "a message group holds up nobody but itself",
        drill: "fifo-kills";
    /// A later message of a lite topic is handed out while an earlier one is out.
    LiteOrderIgnored = "lite-order-ignored",
        breaks: "messages of a lite topic come one after the other",
        drill: "lite-kills";
    /// A timer fires up to 2 s before it is due.
    TimerFiresEarly = "timer-fires-early",
        breaks: "a delayed message never comes early",
        drill: "delay-kills";
    /// A new leader does not look at the timers that were set before it led.
    TimersForgotten = "timers-forgotten",
        breaks: "every delayed message comes when it is due",
        drill: "delay-kills";
    /// A recall says that it took the message back, and does nothing.
    RecallIgnored = "recall-ignored",
        breaks: "what was recalled never comes",
        drill: "delay-kills";
    /// A half message comes into its queue when it is sent.
    HalfMessageVisible = "half-message-visible",
        breaks: "a half message is not delivered before its commit",
        drill: "transactions-kills";
    /// A commit counts although the transaction was rolled back.
    CommitAfterRollback = "commit-after-rollback",
        breaks: "a transaction ends once",
        drill: "transactions-kills";
    /// A commit that is repeated stores the message again.
    TransactionEndsTwice = "transaction-ends-twice",
        breaks: "a transaction ends once",
        drill: "transactions-kills";
    /// The offset that a pulling client leaves is kept in the memory of the leader only.
    PulledOffsetNotReplicated = "pulled-offset-not-replicated",
        breaks: "an offset that was left is found at every later leader",
        drill: "pull-kills";
}

#[cfg(feature = "planted-bugs")]
mod active {
    use std::sync::OnceLock;

    use super::Bug;

    /// Names the bug of this process.
    pub const VARIABLE: &str = "RAFTMQ_PLANTED_BUG";

    static ACTIVE: OnceLock<Result<Option<Bug>, String>> = OnceLock::new();

    /// Whether this process has the bug.
    ///
    /// # Panics
    /// When the environment names no known bug: a run without the bug would prove nothing.
    pub fn planted(bug: Bug) -> bool {
        match active() {
            Ok(active) => active == Some(bug),
            Err(error) => panic!("{error}"),
        }
    }

    /// The bug that the environment asks for, read once.
    ///
    /// # Errors
    /// The name is not known; the text lists all.
    pub fn active() -> Result<Option<Bug>, String> {
        ACTIVE.get_or_init(from_environment).clone()
    }

    fn from_environment() -> Result<Option<Bug>, String> {
        let name = match std::env::var_os(VARIABLE) {
            Some(name) if !name.is_empty() => name,
            _ => return Ok(None),
        };
        match Bug::ALL.iter().find(|bug| bug.name() == name) {
            Some(bug) => {
                tracing::warn!(
                    bug = bug.name(),
                    "THIS PROCESS IS BROKEN ON PURPOSE: {}",
                    bug.description()
                );
                Ok(Some(*bug))
            }
            None => {
                let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
                Err(format!("{VARIABLE} names {name:?}, which is none of {}", names.join(", ")))
            }
        }
    }
}

#[cfg(all(test, feature = "planted-bugs"))]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_documentation_is_this_list() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/planted-bugs.md");
        let text = std::fs::read_to_string(page).unwrap();
        let expected: Vec<String> = Bug::ALL
            .iter()
            .map(|bug| {
                let (name, wrong) = (bug.name(), bug.description());
                format!("| `{name}` | {wrong} | {} | `{}` |", bug.promise(), bug.drill())
            })
            .collect();
        let table = format!("|---|---|---|---|\n{}\n\n", expected.join("\n"));
        assert!(text.contains(&table), "expected:\n{table}");
    }
}
