//! A lane: the leader's view of one consumer group in one topic, in which it chooses who gets what.
//!
//! Choosing is quick and under a lock; the choice becomes a checkout command, and only what its
//! outcome grants is delivered. Until then what was chosen is reserved, so that concurrent receives
//! choose different messages and several checkouts can be under way.
//!
//! Invariants: checkouts of a lane are submitted in the order in which offsets were reserved; after an
//! outcome that does not match, nothing new is reserved until all outcomes are in, and then choosing
//! begins again at the replicated cursor. Lanes live as long as a leadership.
//!
//! Messages that can not go to whoever asks are held back when somebody may get them later: an earlier
//! one of their message group is not consumed (FIFO groups), or another member's filter wants them. In
//! a FIFO group one checkout is under way at a time.
//!
//! Not here: lite topics, which are chosen in `lite`.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use raftmq_proto::raftmq as wire;
use raftmq_proto::v2;
use raftmq_raft_store::ProposeError;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use raftmq_raft_store::state::StateStore;
use raftmq_raft_store::world::time::Instant;
use tokio::sync::Notify;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

use super::filter::Filter;
use super::lite::LiteLane;
use crate::proposer::Place;
use crate::proposer::Submitted;
use crate::rpc::status::Refusal;
use crate::state;
use crate::state::CommandReply;
use crate::state::State;
use crate::state::Topic;
use crate::state::Unit;

/// Index entries looked at in one choice. A filter that matches little gives way after this many.
const UNITS_SCANNED_MAX: usize = 2048;
/// Messages of one queue that may be with consumers of one group. Each costs about 200 bytes in
/// memory on every node.
pub(crate) const INFLIGHT_MAX: usize = 20_000;

/// Bytes of messages after which an answer takes no more. Clients buffer a whole answer, and some
/// take little more than 4 MiB.
const ANSWER_BYTES_MAX: u64 = 2 << 20;
/// Receives that may wait for messages of one group in one topic. More consumers than that gain
/// nothing, and each costs a look now and then.
pub(crate) const WAITING_MAX: usize = 1024;
/// How long after its time a message that an owner held is left to the owner.
const OWNER_GRACE_MS: u64 = 2_000;

/// One consumer group in one topic.
pub(crate) struct Lane {
    choice: Mutex<Choice>,
    /// Wakes one receive that waits for messages.
    pub(crate) arrived: Arc<Notify>,
    pub(super) lite: LiteLane,
    waiting: Arc<Semaphore>,
    /// Deliveries that went to their client in this leadership: nonce by (queue id, offset).
    confirmed: Mutex<HashMap<(u32, u64), u64>>,
    /// Filters of the group's subscriptions, and when somebody last received with them.
    filters: Mutex<Vec<Known>>,
}

/// A subscription of the group.
struct Known {
    subscription: wire::Subscription,
    /// None: it no longer parses, and wants nothing.
    filter: Option<Filter>,
    seen: Instant,
}

/// What has been chosen and not yet decided.
struct Choice {
    /// By queue: next offset to choose.
    next: Vec<u64>,
    /// Messages chosen for redelivery: (queue id, offset).
    again: HashSet<(u32, u64)>,
    /// Checkouts under way.
    under_way: usize,
    /// An outcome did not match: begin again when nothing is under way.
    stale: bool,
    /// Which queue to look at first, so that none is favoured.
    first_queue: usize,
    /// Where to look first among what was held back, for the same reason.
    first_ready: (u32, u64),
    /// The reset of the cursors that `next` knows of.
    reset_at: u64,
    began_ms: Option<u64>,
}

/// All lanes of a leadership.
#[derive(Default)]
pub struct Lanes {
    lanes: Mutex<Leading>,
}

#[derive(Default)]
struct Leading {
    term: u64,
    by_ids: HashMap<(u32, u32), Arc<Lane>>,
}

impl Lanes {
    /// The lane of (group, topic) in the leadership of `term`.
    pub(crate) fn lane(&self, term: u64, ids: (u32, u32)) -> Arc<Lane> {
        let mut leading = self.lanes.lock();
        if leading.term != term {
            *leading = Leading { term, by_ids: HashMap::new() };
        }
        leading.by_ids.entry(ids).or_insert_with(|| Arc::new(Lane::new())).clone()
    }

    /// Wakes receives of every group that consumes one of `topic_ids`.
    pub(crate) fn wake(&self, topic_ids: &[u32]) {
        for (ids, lane) in &self.lanes.lock().by_ids {
            if topic_ids.contains(&ids.1) {
                lane.arrived.notify_one();
            }
        }
    }

    /// Wakes receives of clients that subscribe to one of these lite topics: (topic id, queue id).
    pub(crate) fn wake_lite(&self, state: &State, lite_topics: &[(u32, u32)]) {
        if lite_topics.is_empty() {
            return;
        }
        for (ids, lane) in &self.lanes.lock().by_ids {
            let Some(consumption) = state.consumptions.get(ids) else { continue };
            for (_, queue_id) in lite_topics.iter().filter(|(topic_id, _)| *topic_id == ids.1) {
                lane.lite.arrived(consumption, *queue_id);
            }
        }
    }

    /// Wakes a receive of this lane, if there is one.
    pub(crate) fn wake_lane(&self, ids: (u32, u32)) {
        if let Some(lane) = self.lanes.lock().by_ids.get(&ids) {
            lane.arrived.notify_one();
        }
    }
}

/// What a receive asks for.
pub(crate) struct Wish<'a> {
    pub(crate) ids: (u32, u32),
    pub(crate) filter: &'a Filter,
    pub(crate) count: usize,
    pub(crate) now_ms: u64,
    pub(crate) visible_at_ms: u64,
    /// Empty unless the broker keeps the messages invisible while the client lives.
    pub(crate) renew_client_id: &'a str,
    pub(crate) client_id: &'a str,
    pub(crate) max_attempts: u32,
    /// Messages of one message group go out one after the other.
    pub(crate) fifo: bool,
    /// 0 without an attempt id.
    pub(crate) attempt_hash: u64,
    /// Queues with a higher number go first.
    pub(crate) by_priority: bool,
    /// An answer has messages of one lite topic.
    pub(crate) one_lite_topic: bool,
    /// Reads a message, for filters that look at its properties.
    pub(crate) read: &'a dyn Fn(&Unit) -> Option<v2::Message>,
}

/// Index entries by queue id and offset.
pub(crate) type Units = HashMap<(u32, u64), Unit>;

/// A checkout on its way, and the index entries of what it asks for.
pub(crate) struct Chosen {
    pub(crate) submitted: Submitted,
    pub(crate) units: Units,
    again: Vec<(u32, u64)>,
    /// Lite topics among what was chosen, by queue id.
    pub(super) lite: Vec<u32>,
    /// More could have been chosen.
    pub(crate) more: bool,
}

/// Submits the checkout of what was picked.
pub(super) fn submit(pick: Pick, wish: &Wish<'_>, place: Place) -> Chosen {
    let mut queues: Vec<_> = pick.queues.into_values().collect();
    queues.sort_by_key(|queue| queue.queue_id);
    // The order of a message group is that of its queue.
    queues.iter_mut().for_each(|queue| queue.again.sort_unstable());
    let again =
        queues.iter().flat_map(|queue| queue.again.iter().map(|offset| (queue.queue_id, *offset)));
    let again = again.collect();
    let command = crate::command::Command::Checkout(wire::Checkout {
        group_id: wish.ids.0,
        topic_id: wish.ids.1,
        queues,
        visible_at_ms: wish.visible_at_ms,
        renew_client_id: wish.renew_client_id.to_owned(),
        client_id: wish.client_id.to_owned(),
        attempt_hash: if wish.fifo { wish.attempt_hash } else { 0 },
    });
    let submitted = place.submit(&command);
    Chosen { submitted, units: pick.units, again, lite: Vec::new(), more: pick.more }
}

impl Lane {
    fn new() -> Self {
        let choice = Choice {
            next: Vec::new(),
            again: HashSet::new(),
            under_way: 0,
            stale: true,
            first_queue: 0,
            first_ready: (0, 0),
            reset_at: 0,
            began_ms: None,
        };
        Self {
            choice: Mutex::new(choice),
            arrived: Arc::default(),
            lite: LiteLane::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            confirmed: Mutex::default(),
            filters: Mutex::default(),
        }
    }

    /// Chooses up to `wish.count` messages and submits their checkout to `place`; gives `place` back
    /// when there is nothing.
    pub(crate) fn choose(
        &self,
        state: &State,
        store: &StateStore,
        wish: &Wish<'_>,
        place: Place,
    ) -> Result<Chosen, Place> {
        let (Some(topic), Some(consumption)) =
            (state.topics.get(&wish.ids.1), state.consumptions.get(&wish.ids))
        else {
            return Err(place);
        };
        let others = self.others(consumption, wish.filter);
        let mut choice = self.choice.lock();
        if wish.fifo && choice.under_way > 0 {
            // What is under way may hold up whatever is chosen now.
            return Err(place);
        }
        choice.settle(topic, consumption);
        let began_ms = *choice.began_ms.get_or_insert(wish.now_ms);
        let looked = Looked { began_ms, topic, consumption, store, wish, others: &others };
        let mut pick = Pick::default();
        choice.pick_reread(&looked, &mut pick);
        if pick.queues.is_empty() {
            choice.pick_again(&looked, &mut pick);
            choice.pick_ready(&looked, &mut pick);
            if !choice.stale {
                choice.pick_new(&looked, &mut pick);
            }
        }
        if pick.queues.is_empty() {
            return Err(place);
        }
        // Under the lock: the log sees checkouts in the order of their reservations.
        let chosen = submit(pick, wish, place);
        choice.again.extend(&chosen.again);
        choice.under_way += 1;
        Ok(chosen)
    }

    /// What wakes a receive of this client from a topic, one of lite topics or not.
    pub(crate) fn woken(&self, lite_client_id: Option<&str>) -> Arc<Notify> {
        lite_client_id.map_or_else(|| self.arrived.clone(), |client_id| self.lite.woken(client_id))
    }

    /// See [`LiteLane::look_at_all`].
    pub(crate) fn look_at_all(&self, client_id: &str) {
        self.lite.look_at_all(client_id);
    }

    /// A place among those that wait here, while it is held.
    ///
    /// # Errors
    /// All are taken.
    pub(crate) fn wait(&self, group: &str, topic: &str) -> Result<OwnedSemaphorePermit, Refusal> {
        self.waiting.clone().try_acquire_owned().map_err(|_| {
            let text = format!(
                "{WAITING_MAX} receives of consumer group {group} wait for messages of topic \
                 {topic} already"
            );
            Refusal::too_many("waiting_receives", text)
        })
    }

    /// The filters of the group's other subscriptions.
    fn others(&self, consumption: &state::Consumption, own: &Filter) -> Vec<Filter> {
        if consumption.subscriptions.len() <= 1 {
            return Vec::new();
        }
        let mut known = self.filters.lock();
        known.retain(|known| consumption.subscriptions.contains(&known.subscription));
        for subscription in &consumption.subscriptions {
            if !known.iter().any(|known| known.subscription == *subscription) {
                let subscription = subscription.clone();
                let filter = Filter::of_subscription(&subscription);
                known.push(Known { subscription, filter, seen: Instant::now() });
            }
        }
        let filters = known.iter().filter_map(|known| known.filter.as_ref());
        filters.filter(|filter| *filter != own).cloned().collect()
    }

    /// Somebody receives with this subscription.
    pub(crate) fn seen(&self, subscription: &wire::Subscription) {
        let mut known = self.filters.lock();
        if let Some(known) = known.iter_mut().find(|known| known.subscription == *subscription) {
            known.seen = Instant::now();
        }
    }

    /// Subscriptions with which nobody received for so long.
    pub(crate) fn unseen_for(&self, duration: Duration) -> Vec<wire::Subscription> {
        let known = self.filters.lock();
        let unseen = known.iter().filter(|known| known.seen.elapsed() > duration);
        unseen.map(|known| known.subscription.clone()).collect()
    }

    pub(crate) fn confirm(&self, receipt: &wire::Receipt) {
        self.confirmed.lock().insert((receipt.queue_id, receipt.offset), receipt.nonce);
    }

    pub(crate) fn is_confirmed(&self, receipt: &wire::Receipt) -> bool {
        self.confirmed.lock().get(&(receipt.queue_id, receipt.offset)) == Some(&receipt.nonce)
    }

    /// Forgets deliveries that have ended.
    pub(crate) fn forget_ended(&self, consumption: &state::Consumption) {
        self.lite.forget_gone(consumption);
        self.confirmed.lock().retain(|(queue_id, offset), nonce| {
            let record = consumption.inflight(*queue_id, *offset);
            record.is_some_and(|record| record.nonce == *nonce)
        });
    }

    /// Takes back the reservations of a checkout whose outcome is known.
    fn decided(&self, chosen_again: &[(u32, u64)], matched: bool) {
        let mut choice = self.choice.lock();
        choice.under_way -= 1;
        choice.stale |= !matched;
        for place in chosen_again {
            choice.again.remove(place);
        }
    }
}

impl Chosen {
    /// Waits for the outcome, and takes back what was reserved.
    pub(crate) async fn decided(self, lane: &Lane) -> (Units, Result<CommandReply, ProposeError>) {
        let outcome = self.submitted.outcome().await;
        let matched = matches!(&outcome, Ok(CommandReply::CheckedOut(granted)) if granted.len() == self.units.len());
        match self.lite.is_empty() {
            true => lane.decided(&self.again, matched),
            false => lane.lite.decided(&self.lite),
        }
        (self.units, outcome)
    }
}

/// What a choice looks at.
pub(super) struct Looked<'a> {
    /// When the leadership first chose here.
    pub(super) began_ms: u64,
    pub(super) topic: &'a Topic,
    pub(super) consumption: &'a state::Consumption,
    pub(super) store: &'a StateStore,
    pub(super) wish: &'a Wish<'a>,
    pub(super) others: &'a [Filter],
}

/// Who wants a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// The one who asks.
    Here,
    /// Another member of the group.
    Elsewhere,
    /// Nobody: it is consumed.
    Nowhere,
}

impl Looked<'_> {
    pub(super) fn unit(&self, queue_id: u32, offset: u64) -> Option<Unit> {
        state::unit(self.store, self.wish.ids.1, queue_id, offset)
    }

    fn wanted(&self, unit: &Unit) -> Wanted {
        let mut message = None;
        let mut wants = |filter: &Filter| {
            if !filter.may_match(unit.tag_hash) || !filter.needs_properties() {
                return filter.may_match(unit.tag_hash);
            }
            let message = message.get_or_insert_with(|| (self.wish.read)(unit));
            // What can not be read is dealt with where it is delivered.
            message.as_ref().is_none_or(|message| filter.matches_message(message))
        };
        if wants(self.wish.filter) {
            Wanted::Here
        } else if self.others.iter().any(wants) {
            Wanted::Elsewhere
        } else {
            Wanted::Nowhere
        }
    }

    /// What looking at one message costs: some filters read it.
    fn cost(&self) -> usize {
        let reads =
            self.wish.filter.needs_properties() || self.others.iter().any(Filter::needs_properties);
        if reads { 16 } else { 1 }
    }

    /// Whether everything before it in its message group is consumed or in the pick.
    fn is_its_turn(&self, pick: &Pick, queue_id: u32, offset: u64, group_hash: u64) -> bool {
        if !self.wish.fifo || group_hash == 0 || planted(Bug::FifoGroupIgnored) {
            return true;
        }
        let progress = self.consumption.progress(queue_id);
        progress.is_none_or(|progress| {
            let mut before = progress.before_in_group(group_hash, offset);
            before.all(|before| {
                let forgotten = planted(Bug::FifoOrderLostOnFailover)
                    && progress
                        .inflight
                        .get(&before)
                        .is_none_or(|record| record.first_delivery_ms < self.began_ms);
                forgotten || pick.units.contains_key(&(queue_id, before))
            })
        })
    }
}

/// What one choice has gathered.
#[derive(Default)]
pub(super) struct Pick {
    pub(super) queues: HashMap<u32, wire::QueueCheckout>,
    pub(super) units: Units,
    /// Message groups of which something was passed over: (queue id, hash).
    blocked: HashSet<(u32, u64)>,
    bytes: u64,
    pub(super) more: bool,
}

impl Pick {
    /// Whether another message would be more than was asked for, or than an answer should hold.
    pub(super) fn is_full(&self, wish: &Wish<'_>) -> bool {
        self.units.len() >= wish.count || self.bytes >= ANSWER_BYTES_MAX
    }

    pub(super) fn add(&mut self, queue_id: u32, offset: u64, unit: Unit) {
        self.bytes += u64::from(unit.length);
        self.units.insert((queue_id, offset), unit);
    }

    pub(super) fn add_reread(&mut self, queue_id: u32, offset: u64, unit: Unit) {
        self.queue(queue_id).reread.push(offset);
        self.add(queue_id, offset, unit);
    }

    pub(super) fn add_again(&mut self, queue_id: u32, offset: u64, unit: Unit) {
        self.queue(queue_id).again.push(offset);
        self.add(queue_id, offset, unit);
    }

    fn queue(&mut self, queue_id: u32) -> &mut wire::QueueCheckout {
        self.queues
            .entry(queue_id)
            .or_insert_with(|| wire::QueueCheckout { queue_id, ..Default::default() })
    }
}

/// Whether the time of a delivery has run out, and another one is to follow.
pub(super) fn came_back(wish: &Wish<'_>, record: &wire::InflightRecord) -> bool {
    // `upkeep` renews what a living owner holds well before its time; only when that did not happen has
    // the owner gone.
    let owned =
        !record.renew_client_id.is_empty() && record.visible_at_ms + OWNER_GRACE_MS > wish.now_ms;
    record.visible_at_ms <= wish.now_ms && !is_exhausted(record, wish.max_attempts) && !owned
}

/// Whether a delivery was the last one: the message is on its way to the dead letters.
pub(crate) fn is_exhausted(record: &wire::InflightRecord, max_attempts: u32) -> bool {
    record.attempt >= max_attempts && !record.suspended
}

impl Choice {
    /// Begins at the replicated cursor when that is needed and possible, and follows retention.
    fn settle(&mut self, topic: &Topic, consumption: &state::Consumption) {
        let cursor = |queue_id: usize| {
            let progress = consumption.queues.get(queue_id);
            progress.map_or(topic.queues[queue_id].min, |progress| progress.next_offset)
        };
        if self.reset_at != consumption.reset_at {
            self.reset_at = consumption.reset_at;
            self.stale = true;
        }
        if self.stale && self.under_way == 0 {
            self.next = (0..topic.queues.len()).map(cursor).collect();
            self.stale = false;
        }
        // A trim moves cursors; what is under way then fails to match and settles it.
        if self.under_way == 0 {
            for (queue_id, next) in self.next.iter_mut().enumerate() {
                *next = (*next).max(cursor(queue_id));
            }
        }
    }

    /// What went to the same attempt before, whose answer got lost.
    fn pick_reread(&self, looked: &Looked<'_>, pick: &mut Pick) {
        let hash = looked.wish.attempt_hash;
        if !looked.wish.fifo || hash == 0 {
            return;
        }
        let Some(places) = looked.consumption.attempts.get(&hash) else { return };
        for (queue_id, offset) in places {
            let Some(record) = looked.consumption.inflight(*queue_id, *offset) else { continue };
            let its_turn = looked.is_its_turn(pick, *queue_id, *offset, record.group_hash);
            let Some(unit) = looked.unit(*queue_id, *offset).filter(|_| its_turn) else { continue };
            pick.add_reread(*queue_id, *offset, unit);
        }
    }

    /// What was handed out and came back.
    fn pick_again(&self, looked: &Looked<'_>, pick: &mut Pick) {
        let (consumption, wish) = (looked.consumption, looked.wish);
        for (visible_at, queue_id, offset) in &consumption.due {
            if *visible_at > wish.now_ms {
                break;
            }
            if pick.is_full(wish) {
                pick.more = true;
                break;
            }
            let Some(record) = consumption.inflight(*queue_id, *offset) else { continue };
            if self.may_go_again(wish, *queue_id, *offset, record)
                && looked.is_its_turn(pick, *queue_id, *offset, record.group_hash)
                && let Some(unit) = looked.unit(*queue_id, *offset)
                && !pick.units.contains_key(&(*queue_id, *offset))
                && looked.wanted(&unit) == Wanted::Here
            {
                pick.add_again(*queue_id, *offset, unit);
                self.pick_followers(looked, *queue_id, *offset, record.group_hash, pick);
            }
        }
    }

    /// Whether a message that was handed out before may be handed out now.
    fn may_go_again(
        &self,
        wish: &Wish<'_>,
        queue_id: u32,
        offset: u64,
        record: &wire::InflightRecord,
    ) -> bool {
        came_back(wish, record) && !self.again.contains(&(queue_id, offset))
    }

    /// What comes after a picked message in its message group, as far as it may go now.
    fn pick_followers(
        &self,
        looked: &Looked<'_>,
        queue_id: u32,
        offset: u64,
        group_hash: u64,
        pick: &mut Pick,
    ) {
        let Some(progress) = looked.consumption.progress(queue_id) else { return };
        let Some(offsets) = progress.groups.get(&group_hash) else { return };
        for follower in offsets.range(offset + 1..) {
            let Some(record) = progress.inflight.get(follower) else { break };
            let goes =
                record.attempt == 0 || self.may_go_again(looked.wish, queue_id, *follower, record);
            if !goes || pick.is_full(looked.wish) {
                break;
            }
            match looked.unit(queue_id, *follower) {
                Some(unit) if looked.wanted(&unit) == Wanted::Here => {
                    pick.add_again(queue_id, *follower, unit);
                }
                _ => break,
            }
        }
    }

    /// What was held back and may go now.
    fn pick_ready(&mut self, looked: &Looked<'_>, pick: &mut Pick) {
        let ready = &looked.consumption.ready;
        let from_here = ready.range(self.first_ready..).chain(ready.range(..self.first_ready));
        for (at, (queue_id, offset)) in from_here.enumerate() {
            if pick.is_full(looked.wish) || at * looked.cost() >= UNITS_SCANNED_MAX {
                pick.more = true;
                self.first_ready = (*queue_id, *offset);
                break;
            }
            let Some(unit) = looked.unit(*queue_id, *offset) else { continue };
            let reserved = self.again.contains(&(*queue_id, *offset));
            match looked.wanted(&unit) {
                Wanted::Here if !reserved && !pick.units.contains_key(&(*queue_id, *offset)) => {
                    let group_hash = if looked.wish.fifo { unit.group_hash } else { 0 };
                    pick.add_again(*queue_id, *offset, unit);
                    self.pick_followers(looked, *queue_id, *offset, group_hash, pick);
                }
                // It was held back for a filter that is gone.
                Wanted::Nowhere => pick.queue(*queue_id).dropped.push(*offset),
                Wanted::Here | Wanted::Elsewhere => (),
            }
        }
    }

    fn pick_new(&mut self, looked: &Looked<'_>, pick: &mut Pick) {
        let queue_count = looked.topic.queues.len();
        let mut scanned = 0;
        for step in 0..queue_count {
            let queue_id = if looked.wish.by_priority {
                queue_count - 1 - step
            } else {
                (self.first_queue + step) % queue_count
            };
            if self.next[queue_id] >= looked.topic.queues[queue_id].max {
                continue;
            }
            if pick.is_full(looked.wish) || scanned >= UNITS_SCANNED_MAX {
                pick.more = true;
                break;
            }
            self.pick_new_of(looked, queue_id, &mut scanned, pick);
        }
        self.first_queue = (self.first_queue + 1) % queue_count.max(1);
    }

    fn pick_new_of(
        &mut self,
        looked: &Looked<'_>,
        queue_id: usize,
        scanned: &mut usize,
        pick: &mut Pick,
    ) {
        let wish = looked.wish;
        let (from, max) = (self.next[queue_id], looked.topic.queues[queue_id].max);
        let out = |progress: &state::Progress| progress.inflight.values().any(|it| it.attempt > 0);
        if planted(Bug::FifoQueueBlocked)
            && wish.fifo
            && looked.consumption.queues.get(queue_id).is_some_and(out)
        {
            return;
        }
        let mut inflight = looked.consumption.queues.get(queue_id).map_or(0, |progress| {
            progress.inflight.len() + (from - progress.next_offset.min(from)) as usize
        });
        if inflight >= INFLIGHT_MAX {
            metrics::counter!("raftmq_inflight_limit_reached_total").increment(1);
            return;
        }
        let id = queue_id as u32;
        let mut part =
            wire::QueueCheckout { queue_id: id, from_offset: from, ..Default::default() };
        // Without one, all up to the end were taken out.
        part.next_offset = max;
        state::units(looked.store, wish.ids.1, id, from, max, |offset, unit| {
            if pick.is_full(wish) || *scanned >= UNITS_SCANNED_MAX || inflight >= INFLIGHT_MAX {
                part.next_offset = offset;
                return false;
            }
            *scanned += looked.cost();
            let wanted = looked.wanted(&unit);
            if wanted == Wanted::Nowhere {
                return true;
            }
            inflight += 1;
            let group_hash = if wish.fifo { unit.group_hash } else { 0 };
            let its_turn = !pick.blocked.contains(&(id, group_hash))
                && looked.is_its_turn(pick, id, offset, group_hash);
            if its_turn && wanted == Wanted::Here {
                part.taken.push(offset);
                if wish.fifo {
                    part.taken_groups.push(group_hash);
                }
                pick.add(id, offset, unit);
            } else {
                part.held.push(offset);
                if wish.fifo {
                    part.held_groups.push(group_hash);
                }
                if group_hash != 0 {
                    pick.blocked.insert((id, group_hash));
                }
            }
            true
        });
        pick.more |= part.next_offset < max;
        // Somebody else may want what was held back.
        pick.more |= !part.held.is_empty() && !looked.others.is_empty();
        if part.next_offset > from {
            self.next[queue_id] = part.next_offset;
            let queue = pick.queue(id);
            *queue = wire::QueueCheckout {
                again: std::mem::take(&mut queue.again),
                dropped: std::mem::take(&mut queue.dropped),
                ..part
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use raftmq_proto::v2::Code;

    use super::*;

    #[test]
    fn waiting_receives_are_bounded_and_give_their_places_back() {
        let lane = Lane::new();
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| lane.wait("g", "t").unwrap()).collect();
        let refused = lane.wait("g", "t").unwrap_err();
        assert_eq!(refused.code, Code::TooManyRequests);
        assert!(refused.message.contains("1024 receives of consumer group g"), "{refused}");
        waiting.pop();
        assert!(lane.wait("g", "t").is_ok());
    }
}
