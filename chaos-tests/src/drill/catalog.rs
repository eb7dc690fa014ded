//! All drills there are. A new one is a few lines here, and, if it breaks something new, a file in
//! [`crate::fault`].

use std::sync::LazyLock;
use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::messages::{OF_MESSAGES, messages, under_messages};
use super::{Drill, Need, Step};
use crate::check::{Checker, Expectations};
use crate::cluster::Size;
use crate::driver::Client;
use crate::fault::{
    Amnesia, Clock, Cut, Damaged, Degrade, Door, FalseCandidates, Fault, InterruptedSnapshot,
    Interruption, Kill, KillNameServers, KillWhileFlushing, Lag, LateLeader, Loss, Overload,
    Partition, Pause, Poison, PowerCut, RestartStorm, RollingRestart, SickDisk, Sickness,
    StaleNameServers, StarvedDescriptors, StarvedMemory, StarvedProcessor, Target, Trouble,
    WrongClock,
};
use crate::load::{
    Admin, Churn, DeadLetters, Delay, Fifo, Flood, Lite, Official, Pull, Queue, Redelivery,
    Retried, Transactions, Workload,
};

const THREE: Size = Size { name_servers: 2, brokers: 3 };
const FIVE: Size = Size { name_servers: 2, brokers: 5 };

/// Every drill, in the order of `chaos list`.
pub fn all() -> &'static [Drill] {
    static ALL: LazyLock<Vec<Drill>> = LazyLock::new(|| {
        DRILLS.iter().copied().chain(DRILLS.iter().filter_map(under_messages)).collect()
    });
    &ALL
}

/// The drill of a name.
pub fn find(name: &str) -> Option<&'static Drill> {
    all().iter().find(|drill| drill.name == name)
}

/// The drills of a suite: `smoke` takes a few minutes and is part of the project's own tests;
/// `messages` has every fault under everything that messages can do; `ci` has each other drill once,
/// and a few of `messages`; `full` has all with more rounds, and those that are there for figures.
pub fn suite(name: &str) -> Option<Vec<&'static Drill>> {
    let in_suite = |drill: &&Drill| match name {
        "smoke" => SMOKE.contains(&drill.name),
        "messages" => drill.faults_of.is_some(),
        "ci" => match drill.faults_of {
            Some(_) => TELLING.contains(&drill.name),
            None => !FIGURES.contains(&drill.name),
        },
        _ => name == "full",
    };
    let mut drills: Vec<_> = all().iter().filter(in_suite).collect();
    // The longest begin first, so that none of them is left over at the end.
    drills.sort_by_key(|drill| drill.faults_of.is_none());
    (!drills.is_empty()).then_some(drills)
}

const SMOKE: &[&str] = &[
    "kill-leader",
    "administration",
    "pause-leader",
    "isolate-leader",
    "power-cut-all",
    "damaged-log",
    "flush-error",
    "clock-jump",
    "features",
];

/// A follower that was away for some seconds needs a snapshot: for longer than messages are invisible
/// that it had handed out, since these keep the log.
const SHORT_LOG: &[&str] =
    &["--segment-bytes=262144", "--retention-bytes=1048576", "--retention-interval-ms=500"];

/// A producer is asked soon, and not for minutes.
pub(super) const SHORT_TRANSACTIONS: &[&str] = &[
    "--transaction-timeout-ms=1000",
    "--transaction-check-interval-ms=1000",
    "--transaction-check-max=15",
];

/// Those of the suite `messages` that `ci` has: what moves all state of messages to another node, and
/// what no other drill does to it.
const TELLING: &[&str] = &[
    "messages-bad-links",
    "messages-restart-storm",
    "messages-emptied-disk",
    "messages-lagging-node",
];

/// Many faults, close together: they try nothing that others do not, and give distributions.
const FIGURES: &[&str] = &["leader-kills", "power-cuts"];

const NOTHING: Drill = Drill {
    name: "nothing",
    about: "No fault at all: the baseline, and what the harness itself costs.",
    size: THREE,
    needs: &[],
    broker_options: &[],
    workloads: queue,
    plan: |_| Vec::new(),
    load_after: Duration::from_secs(3),
    requires: &[],
    expect: calm,
    faults_of: None,
};

const DRILLS: &[Drill] = &[
    NOTHING,
    Drill {
        name: "kill-leader",
        about: "kill -9 of the leader, again and again: nothing is lost, sends go on within a second.",
        plan: |_| repeat(4, || step(Kill::new(Target::Leader), 1.5, 4.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "kill-follower",
        about: "kill -9 of a follower: nobody notices.",
        plan: |_| repeat(4, || step(Kill::new(Target::Follower), 1.5, 3.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "kill-majority",
        about: "kill -9 of the leader and another one: no writes until one is back, nothing lost.",
        plan: |_| repeat(3, || step(Kill::new(Target::Majority), 2.0, 4.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "kill-all",
        about: "kill -9 of all brokers at once: everything acknowledged is there afterwards.",
        workloads: queue_and_admin,
        plan: |_| repeat(4, || step(Kill::new(Target::All), 0.5, 4.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "kill-five",
        about: "Five brokers: kill -9 of majorities, of leaders, of all.",
        size: FIVE,
        plan: |random| {
            let targets = [Target::Leader, Target::Majority, Target::All, Target::Follower];
            let draw = |random: &mut ChaCha8Rng| *targets.choose(random).unwrap_or(&Target::All);
            (0..5).map(|_| step(Kill::new(draw(random)), 1.5, 4.0)).collect()
        },
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "administration",
        about: "Topics and groups are made and deleted while leaders die: each is one register.",
        workloads: queue_and_admin,
        plan: |_| repeat(4, || step(Kill::new(Target::Leader), 1.5, 3.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "churn",
        about: "Consumers come, go and vanish while leaders die: every message is consumed.",
        workloads: queue_and_churn,
        plan: |_| repeat(3, || step(Kill::new(Target::Leader), 1.5, 4.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "pause-leader",
        about: "The leader stands still for seconds and wakes up deposed: it serves nothing stale.",
        workloads: queue_and_admin,
        plan: |_| repeat(3, || step(Pause::new(Target::Leader), 6.0, 3.0)),
        expect: silent_failure,
        ..NOTHING
    },
    Drill {
        name: "pause-majority",
        about: "A majority stands still: no writes, and none is lost.",
        plan: |_| repeat(3, || step(Pause::new(Target::Majority), 2.5, 3.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "rolling-restart",
        about: "Each broker is restarted as in an upgrade: no send fails.",
        plan: |_| repeat(2, || step(RollingRestart::new(), 0.0, 3.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "restart-storm",
        about: "Random brokers are killed every second or two.",
        plan: |_| vec![step(RestartStorm::new(12), 0.0, 5.0)],
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "name-servers",
        about: "All name servers are gone for a while, then start empty: who has routes goes on.",
        plan: |_| repeat(2, || step(KillNameServers::default(), 6.0, 4.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "isolate-leader",
        about: "The leader is cut off from everybody: the others elect, it serves nothing stale.",
        needs: &[Need::Network],
        workloads: queue_and_admin,
        plan: |_| repeat(3, || step(Partition::new(Cut::Leader), 6.0, 4.0)),
        expect: silent_failure,
        ..NOTHING
    },
    Drill {
        name: "partitions",
        about: "One partition after the other: peers, followers, one-way in both directions, bridge.",
        needs: &[Need::Network],
        workloads: queue_and_admin,
        plan: |_| {
            let cuts = [
                Cut::LeaderFromPeers,
                Cut::Follower,
                Cut::LeaderOneWayOut,
                Cut::LeaderOneWayIn,
                Cut::NameServers,
            ];
            // Through forwarders a leader that hears nothing is heard on, until the keep-alive of its
            // connections gives up after five seconds.
            let hold_s = |cut| if cut == Cut::LeaderOneWayIn { 9.0 } else { 6.0 };
            cuts.map(|cut| step(Partition::new(cut), hold_s(cut), 4.0)).into()
        },
        expect: silent_failure,
        ..NOTHING
    },
    Drill {
        name: "bridge-and-ring",
        about: "Five brokers, of which none or one sees all others: a majority goes on.",
        size: FIVE,
        needs: &[Need::Network],
        plan: |_| {
            let cuts = [Cut::Bridge, Cut::Ring, Cut::Bridge, Cut::Ring];
            cuts.map(|cut| step(Partition::new(cut), 5.0, 4.0)).into()
        },
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "bad-links",
        about: "Links between brokers lose, double, reorder, delay and corrupt packets.",
        needs: &[Need::Network],
        plan: |_| {
            let troubles = [Trouble::Lossy, Trouble::Slow, Trouble::Corrupt];
            troubles.map(|trouble| step(Degrade::new(trouble), 6.0, 4.0)).into()
        },
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "power-cut-all",
        about: "All brokers lose their power at once, and what was not flushed: nothing is lost.",
        needs: &[Need::Volumes],
        plan: |_| repeat(4, || step(PowerCut::new(Target::All), 0.3, 4.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "power-cut-some",
        about: "Leader, follower and majority lose their power in turn.",
        needs: &[Need::Volumes],
        plan: |_| {
            let targets = [Target::Leader, Target::Follower, Target::Majority, Target::Leader];
            targets.map(|target| step(PowerCut::new(target), 1.0, 4.0)).into()
        },
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "damaged-log",
        about: "A follower's log is damaged while it is down: an unfinished write is cut off, \
                everything else is refused with file and offset.",
        plan: |_| {
            let losses = [Loss::TornWrite, Loss::FlippedBit, Loss::CutTail];
            losses.map(|loss| step(Damaged::new(loss), 1.0, 3.0)).into()
        },
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "emptied-disk",
        about: "A follower comes back with an empty disk: a learner first, then a voter.",
        plan: |_| repeat(2, || step(Damaged::new(Loss::Emptied), 1.0, 3.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "amnesia",
        about: "One broker is behind, one loses its disk, the leader dies: a majority is there, and \
                nobody leads until the one who has everything is back.",
        plan: |_| repeat(2, || step(Amnesia::default(), 4.0, 4.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "false-candidates",
        about: "A voter is asked by a candidate with a shorter log, gives its vote to another one, loses \
                its power at once, and is asked by a third: it votes once, for one that has everything.",
        needs: &[Need::Volumes],
        plan: |_| repeat(2, || step(FalseCandidates::default(), 0.3, 4.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "late-leader",
        about: "The last word of a leader does not get to its heir, who has a new topic in its log and does \
                not know yet that it counts: it answers once it does.",
        needs: &[Need::Network, Need::Shim],
        plan: |_| repeat(2, || step(LateLeader::default(), 0.3, 4.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "lagging-node",
        about: "A follower is away for longer than the log reaches back, gets a snapshot, and leads.",
        broker_options: SHORT_LOG,
        workloads: large_queue,
        // It leads for longer than what was handed out before stays invisible: it needs the bodies.
        plan: |_| vec![step(Lag::default(), 14.0, 12.0)],
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "slow-disk",
        about: "Each flush of the leader takes 200 ms longer: writes go on.",
        needs: &[Need::Shim],
        plan: |_| vec![step(SickDisk::new(Sickness::Slow), 6.0, 4.0)],
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "kill-while-flushing",
        about: "All brokers are killed while flushes take long: nothing acknowledged was in memory.",
        needs: &[Need::Shim],
        plan: |_| repeat(3, || step(KillWhileFlushing::default(), 0.5, 4.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "hung-disk",
        about: "The leader's flushes do not return: it hands over.",
        needs: &[Need::Shim],
        plan: |_| vec![step(SickDisk::new(Sickness::Hung), 12.0, 5.0)],
        // Long before the disk is well again.
        expect: || Expectations { write_gap_max_ms: Some(8000), ..available() },
        ..NOTHING
    },
    Drill {
        name: "flush-error",
        about: "The leader's flush fails: it ends before it acknowledges anything more.",
        needs: &[Need::Shim],
        plan: |_| repeat(2, || step(SickDisk::new(Sickness::FlushError), 2.0, 4.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "full-disk",
        about: "The leader's disk is full: it ends, the others go on, it comes back with space.",
        needs: &[Need::Shim],
        plan: |_| vec![step(SickDisk::new(Sickness::Full), 3.0, 4.0)],
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "clock-jump",
        about: "The leader's wall clock jumps by an hour, runs fast and slow: nothing comes early.",
        needs: &[Need::Shim],
        plan: |_| {
            let clocks = [Clock::JumpAhead, Clock::JumpBack, Clock::Fast, Clock::Slow];
            clocks.map(|clock| step(WrongClock::new(clock), 4.0, 2.0)).into()
        },
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "poison",
        about: "Strangers send garbage, absurd requests and half ones to every port: nothing ends, \
                grows or is stored.",
        plan: |_| {
            let doors = [Door::Client, Door::Peer, Door::Admin, Door::Http, Door::NameServer];
            doors.map(|door| step(Poison::new(door), 4.0, 1.0)).into()
        },
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "slow-timers",
        about: "All clocks of the leader run at half speed, its leases with them: nothing stale.",
        needs: &[Need::Shim],
        workloads: queue_and_admin,
        plan: |_| repeat(2, || step(WrongClock::new(Clock::SlowTimers), 5.0, 3.0)),
        // At the end they jump to the right time, which no monotonic clock does: what was handed out
        // comes again too early by as much.
        expect: || Expectations { clock_slack_ms: 3000, ..available() },
        ..NOTHING
    },
    Drill {
        name: "stale-name-servers",
        about: "Name servers stand still while the leader changes: the highest term wins.",
        plan: |_| repeat(3, || step(StaleNameServers::default(), 2.0, 4.0)),
        expect: silent_failure,
        ..NOTHING
    },
    Drill {
        name: "interrupted-snapshot",
        about: "A follower that needs a snapshot is killed while it arrives, three times: it gets there.",
        needs: &[Need::Network],
        broker_options: SHORT_LOG,
        workloads: consumed_queue,
        plan: |_| vec![step(InterruptedSnapshot::new(Interruption::Receiver), 13.0, 4.0)],
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "interrupted-sender",
        about: "The leader that sends a snapshot is killed, three times: the follower gets there.",
        needs: &[Need::Network],
        broker_options: SHORT_LOG,
        workloads: consumed_queue,
        plan: |_| vec![step(InterruptedSnapshot::new(Interruption::Sender), 13.0, 4.0)],
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "interrupted-link",
        about: "The link that a snapshot comes over is cut, three times: the follower gets there.",
        needs: &[Need::Network],
        broker_options: SHORT_LOG,
        workloads: consumed_queue,
        plan: |_| vec![step(InterruptedSnapshot::new(Interruption::Link), 13.0, 4.0)],
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "overload",
        about: "Thirty times the usual rate for a while: refused or slow, nothing acknowledged is lost.",
        workloads: queue_and_flood,
        plan: |_| repeat(2, || step(Overload::new(150.0), 4.0, 8.0)),
        expect: overloaded,
        ..NOTHING
    },
    Drill {
        name: "starved-processor",
        about: "Each broker gets a fiftieth of a processor: slow, but leaders do not come and go.",
        plan: |_| repeat(2, || step(StarvedProcessor::new(0.02), 7.0, 5.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "starved-memory",
        about: "A request needs more memory than the leader may have: it ends, the others go on.",
        plan: |_| repeat(3, || step(StarvedMemory::default(), 2.0, 4.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "starved-descriptors",
        about: "The leader may open nothing more: who is connected goes on, then all ports answer.",
        plan: |_| repeat(3, || step(StarvedDescriptors::new(), 5.0, 4.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "starved-log",
        about: "The leader may open nothing more and needs a new segment: it ends, and says so.",
        broker_options: &["--segment-bytes=131072"],
        plan: |_| repeat(3, || step(StarvedDescriptors::new(), 5.0, 4.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "retried-sends",
        about: "Sends are repeated with their message id, at once, later, at the same time, while \
                leaders die and stand still: each is stored once and always answered the same.",
        workloads: retried,
        plan: |_| {
            let mut plan = repeat(3, || step(Kill::new(Target::Leader), 1.5, 4.0));
            plan.push(step(Pause::new(Target::Leader), 6.0, 3.0));
            plan
        },
        expect: silent_failure,
        ..NOTHING
    },
    Drill {
        name: "redelivery",
        about: "Consumers keep messages, give them back and ask for more time while leaders die: \
                none comes early, each comes again, and is counted.",
        workloads: redelivery,
        plan: |_| repeat(3, || step(Kill::new(Target::Leader), 1.5, 8.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "features",
        about: "Message groups, delays, transactions, pulling and dead letters all at once, while the \
                leader dies, then all brokers.",
        broker_options: SHORT_TRANSACTIONS,
        workloads: messages,
        plan: |_| {
            vec![step(Kill::new(Target::Leader), 1.5, 14.0), step(Kill::new(Target::All), 0.5, 5.0)]
        },
        requires: OF_MESSAGES,
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "fifo-kills",
        about: "Leaders, then all brokers, are killed under message groups: each keeps its order, and \
                poison holds up its own message group only.",
        workloads: fifo,
        plan: |_| kills(),
        requires: &[Checker::FifoOrder],
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "fifo-faults",
        about: "The leader stands still, is cut off, all lose their power, each is restarted, under \
                message groups: each keeps its order.",
        needs: &[Need::Network, Need::Volumes],
        workloads: fifo,
        plan: |_| in_turn(),
        requires: &[Checker::FifoOrder],
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "lite-kills",
        about: "Leaders, then all brokers, are killed under lite topics: each keeps its order, and \
                subscriptions survive without being said again.",
        workloads: lite,
        plan: |_| kills(),
        requires: &[Checker::FifoOrder, Checker::Lite],
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "lite-faults",
        about: "The leader stands still, is cut off, all lose their power, each is restarted, under \
                lite topics: each keeps its order.",
        needs: &[Need::Network, Need::Volumes],
        workloads: lite,
        plan: |_| in_turn(),
        requires: &[Checker::FifoOrder, Checker::Lite],
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "delay-kills",
        about: "Leaders, then all brokers, are killed while delayed messages wait: none is early, \
                lost, or delivered after its recall.",
        workloads: delay,
        plan: |_| kills(),
        requires: &[Checker::Delays],
        expect: || unordered(interrupted()),
        ..NOTHING
    },
    Drill {
        name: "delay-faults",
        about: "The leader stands still, is cut off, all lose their power, each is restarted, while \
                delayed messages wait.",
        needs: &[Need::Network, Need::Volumes],
        workloads: delay,
        plan: |_| in_turn(),
        requires: &[Checker::Delays],
        expect: || unordered(interrupted()),
        ..NOTHING
    },
    Drill {
        name: "delay-clock-jump",
        about: "The leader's wall clock jumps by an hour, runs fast and slow, while delayed messages \
                wait, some for an hour: none is early, and none stays away.",
        needs: &[Need::Shim],
        workloads: delay,
        plan: |_| {
            let clocks = [Clock::JumpAhead, Clock::JumpBack, Clock::Fast, Clock::Slow];
            clocks.map(|clock| step(WrongClock::new(clock), 5.0, 2.0)).into()
        },
        requires: &[Checker::Delays],
        expect: || unordered(available()),
        ..NOTHING
    },
    Drill {
        name: "transactions-kills",
        about: "Leaders, then all brokers, are killed under transactions: each ends once, as its \
                producer said.",
        broker_options: SHORT_TRANSACTIONS,
        workloads: transactions,
        plan: |_| kills(),
        requires: &[Checker::Transactions],
        expect: || unordered(interrupted()),
        ..NOTHING
    },
    Drill {
        name: "transactions-faults",
        about: "The leader stands still, is cut off, all lose their power, each is restarted, under \
                transactions: each ends once.",
        needs: &[Need::Network, Need::Volumes],
        broker_options: SHORT_TRANSACTIONS,
        workloads: transactions,
        plan: |_| in_turn(),
        requires: &[Checker::Transactions],
        expect: || unordered(interrupted()),
        ..NOTHING
    },
    Drill {
        name: "pull-kills",
        about: "Leaders, then all brokers, are killed under clients that keep their own place: they \
                miss nothing, and find the place they left with the server.",
        workloads: pull,
        plan: |_| kills(),
        requires: &[Checker::Pull],
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "pull-faults",
        about: "The leader stands still, is cut off, all lose their power, each is restarted, under \
                clients that keep their own place.",
        needs: &[Need::Network, Need::Volumes],
        workloads: pull,
        plan: |_| in_turn(),
        requires: &[Checker::Pull],
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "dead-letters-kills",
        about: "Leaders, then all brokers, are killed while a group gives up on messages: each is one \
                dead letter, after as many deliveries as are allowed.",
        workloads: dead_letters,
        plan: |_| kills(),
        requires: &[Checker::DeadLetters],
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "dead-letters-faults",
        about: "The leader stands still, is cut off, all lose their power, each is restarted, while a \
                group gives up on messages.",
        needs: &[Need::Network, Need::Volumes],
        workloads: dead_letters,
        plan: |_| in_turn(),
        requires: &[Checker::DeadLetters],
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "java-kill-leader",
        about: "kill -9 of the leader, under an official Java producer and its consumers.",
        needs: &[Need::Java],
        workloads: java,
        plan: |_| repeat(3, || step(Kill::new(Target::Leader), 1.5, 4.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "java-kill-all",
        about: "kill -9 of all brokers at once, under an official Java producer and its consumers.",
        needs: &[Need::Java],
        workloads: java,
        plan: |_| repeat(2, || step(Kill::new(Target::All), 0.5, 5.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "java-pause-leader",
        about: "The leader stands still for seconds, under an official Java producer and its consumers.",
        needs: &[Need::Java],
        workloads: java,
        plan: |_| repeat(2, || step(Pause::new(Target::Leader), 6.0, 4.0)),
        expect: silent_failure,
        ..NOTHING
    },
    Drill {
        name: "java-rolling-restart",
        about: "Each broker is restarted as in an upgrade, under an official Java producer and its consumers.",
        needs: &[Need::Java],
        workloads: java,
        plan: |_| vec![step(RollingRestart::new(), 0.0, 3.0)],
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "java-isolate-leader",
        about: "The leader is cut off from everybody, under an official Java producer and its consumers.",
        needs: &[Need::Network, Need::Java],
        workloads: java,
        plan: |_| repeat(2, || step(Partition::new(Cut::Leader), 6.0, 4.0)),
        expect: silent_failure,
        ..NOTHING
    },
    Drill {
        name: "python-kill-leader",
        about: "kill -9 of the leader, under an official Python producer and its consumers.",
        needs: &[Need::Python],
        workloads: python,
        plan: |_| repeat(3, || step(Kill::new(Target::Leader), 1.5, 4.0)),
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "python-kill-all",
        about: "kill -9 of all brokers at once, under an official Python producer and its consumers.",
        needs: &[Need::Python],
        workloads: python,
        plan: |_| repeat(2, || step(Kill::new(Target::All), 0.5, 5.0)),
        expect: interrupted,
        ..NOTHING
    },
    Drill {
        name: "python-pause-leader",
        about: "The leader stands still for seconds, under an official Python producer and its consumers.",
        needs: &[Need::Python],
        workloads: python,
        plan: |_| repeat(2, || step(Pause::new(Target::Leader), 6.0, 4.0)),
        expect: silent_failure,
        ..NOTHING
    },
    Drill {
        name: "python-rolling-restart",
        about: "Each broker is restarted as in an upgrade, under an official Python producer and its consumers.",
        needs: &[Need::Python],
        workloads: python,
        plan: |_| vec![step(RollingRestart::new(), 0.0, 3.0)],
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "python-isolate-leader",
        about: "The leader is cut off from everybody, under an official Python producer and its consumers.",
        needs: &[Need::Network, Need::Python],
        workloads: python,
        plan: |_| repeat(2, || step(Partition::new(Cut::Leader), 6.0, 4.0)),
        expect: silent_failure,
        ..NOTHING
    },
    Drill {
        name: "leader-kills",
        about: "Forty leaders are killed, one as soon as the last one is back: for the write gap.",
        plan: |random| {
            let holds = (0..40).map(|_| random.random_range(0.3..0.8));
            holds.map(|hold_s| step(Kill::settled(Target::Leader), hold_s, 1.0)).collect()
        },
        expect: available,
        ..NOTHING
    },
    Drill {
        name: "power-cuts",
        about: "All brokers lose their power, twenty-five times: nothing is lost.",
        needs: &[Need::Volumes],
        plan: |random| {
            let holds = (0..25).map(|_| random.random_range(0.1..0.5));
            holds.map(|hold_s| step(PowerCut::settled(Target::All), hold_s, 0.8)).collect()
        },
        expect: interrupted,
        ..NOTHING
    },
];

fn step(fault: impl Fault + 'static, hold_s: f64, rest_s: f64) -> Step {
    Step {
        fault: Box::new(fault),
        hold: Duration::from_secs_f64(hold_s),
        rest: Duration::from_secs_f64(rest_s),
    }
}

fn repeat(count: usize, step: impl Fn() -> Step) -> Vec<Step> {
    (0..count).map(|_| step()).collect()
}

/// A leader dies, all do, another leader dies. After the first there is time enough to see that nothing
/// is held up.
fn kills() -> Vec<Step> {
    vec![
        step(Kill::new(Target::Leader), 1.5, 15.0),
        step(Kill::new(Target::All), 0.5, 5.0),
        step(Kill::new(Target::Leader), 1.5, 4.0),
    ]
}

/// One of each: a pause, a partition, a power cut, an upgrade.
fn in_turn() -> Vec<Step> {
    vec![
        step(Pause::new(Target::Leader), 6.0, 15.0),
        step(Partition::new(Cut::LeaderFromPeers), 6.0, 4.0),
        step(PowerCut::new(Target::All), 0.3, 5.0),
        step(RollingRestart::new(), 0.0, 3.0),
    ]
}

fn fifo() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Fifo::default())]
}

fn lite() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Lite::default())]
}

fn delay() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Delay::default())]
}

fn transactions() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Transactions::default())]
}

fn pull() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Pull::default())]
}

fn dead_letters() -> Vec<Box<dyn Workload>> {
    vec![Box::new(DeadLetters::default())]
}

fn retried() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Retried::default())]
}

fn redelivery() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Redelivery::default())]
}

/// An official client, and the native one to compare it with.
fn java() -> Vec<Box<dyn Workload>> {
    beside(Official::new(Client::Java))
}

fn python() -> Vec<Box<dyn Workload>> {
    beside(Official::new(Client::Python))
}

fn beside(official: Official) -> Vec<Box<dyn Workload>> {
    vec![Box::new(Queue { rate_per_s: 50.0, ..Queue::default() }), Box::new(official)]
}

fn queue() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Queue::default())]
}

fn large_queue() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Queue { body_bytes: 2048, ..Queue::default() })]
}

/// What is received is acknowledged: otherwise the log keeps it until it has come again.
fn consumed_queue() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Queue { body_bytes: 4096, abandon: 0.0, ..Queue::default() })]
}

fn queue_and_flood() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Queue::default()), Box::new(Flood::default())]
}

fn queue_and_admin() -> Vec<Box<dyn Workload>> {
    vec![Box::new(Queue::default()), Box::new(Admin { operators: 4 })]
}

fn queue_and_churn() -> Vec<Box<dyn Workload>> {
    let queue = Queue::default();
    let churn = Churn { topic: queue.topic.clone(), members: 4 };
    vec![Box::new(queue), Box::new(churn)]
}

/// Nothing is broken.
fn calm() -> Expectations {
    Expectations { faults_min: 0, write_gap_max_ms: Some(5000), ..Expectations::default() }
}

/// A majority is up all the time, and a dead leader is noticed at once.
pub(super) fn available() -> Expectations {
    Expectations {
        faults_min: 1,
        ok_sends_per_fault_min: 5,
        // Usually a fifth of a second; a machine with other work needs more.
        write_gap_max_ms: Some(5000),
        ..Expectations::default()
    }
}

/// A majority is up all the time, but the leader's silence must be waited for.
fn silent_failure() -> Expectations {
    Expectations { write_gap_max_ms: Some(10_000), ..available() }
}

/// More is asked for than can be done, and all is as before soon after.
fn overloaded() -> Expectations {
    Expectations { settling_max_ms: Some(6000), ..available() }
}

/// The same, and nothing is delivered as soon as it is sent, so that queues have no order to keep.
fn unordered(expect: Expectations) -> Expectations {
    Expectations { skipped: [Checker::Order].into(), ..expect }
}

/// For a while nothing can be acknowledged.
fn interrupted() -> Expectations {
    Expectations { faults_min: 1, ok_sends_per_fault_min: 0, ..Expectations::default() }
}
