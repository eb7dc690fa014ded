//! A lane: the leader's view of one consumer group in one topic, in which it chooses who gets what.
//!
//! Choosing is quick and under a lock; the choice becomes a checkout command, and only what its
//! outcome grants is delivered. Until then what was chosen is reserved, so that concurrent receives
//! choose different messages and several checkouts can be under way.
//!
//! Invariants: checkouts of a lane are submitted in the order in which offsets were reserved; after an
//! outcome that does not match, nothing new is reserved until all outcomes are in, and then choosing
//! begins again at the replicated cursor. Lanes live as long as a leadership.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use raftmq_proto::raftmq as wire;
use raftmq_raft_store::state::StateStore;
use tokio::sync::Notify;

use super::filter::Filter;
use crate::proposer::Place;
use crate::proposer::Submitted;
use crate::state;
use crate::state::State;
use crate::state::Unit;

/// Index entries looked at in one choice. A filter that matches little gives way after this many.
const UNITS_SCANNED_MAX: usize = 2048;
/// Messages of one queue that may be with consumers of one group. Each costs about 200 bytes in
/// memory on every node.
pub(crate) const INFLIGHT_MAX: usize = 20_000;

/// Bytes of messages after which an answer takes no more. Clients buffer a whole answer, and some
/// take little more than 4 MiB.
const ANSWER_BYTES_MAX: u64 = 2 << 20;
/// How long after its time a message that an owner held is left to the owner.
const OWNER_GRACE_MS: u64 = 2_000;

/// One consumer group in one topic.
pub(crate) struct Lane {
    choice: Mutex<Choice>,
    /// Wakes one receive that waits for messages.
    pub(crate) arrived: Notify,
    /// Deliveries that went to their client in this leadership: nonce by (queue id, offset).
    confirmed: Mutex<HashMap<(u32, u64), u64>>,
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
    pub(crate) max_attempts: u32,
}

/// A checkout on its way, and the index entries of what it asks for.
pub(crate) struct Chosen {
    pub(crate) submitted: Submitted,
    pub(crate) units: HashMap<(u32, u64), Unit>,
    again: Vec<(u32, u64)>,
    /// More could have been chosen.
    pub(crate) more: bool,
}

impl Lane {
    fn new() -> Self {
        let choice = Choice {
            next: Vec::new(),
            again: HashSet::new(),
            under_way: 0,
            stale: true,
            first_queue: 0,
        };
        Self { choice: Mutex::new(choice), arrived: Notify::new(), confirmed: Mutex::default() }
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
        let mut choice = self.choice.lock();
        choice.settle(state, wish.ids);
        let mut pick = Pick::default();
        choice.pick_again(state, store, wish, &mut pick);
        if !choice.stale {
            choice.pick_new(state, store, wish, &mut pick);
        }
        if pick.queues.is_empty() {
            return Err(place);
        }
        let again: Vec<(u32, u64)> = pick
            .queues
            .values()
            .flat_map(|queue| queue.again.iter().map(|offset| (queue.queue_id, *offset)))
            .collect();
        choice.again.extend(&again);
        choice.under_way += 1;
        let mut queues: Vec<_> = pick.queues.into_values().collect();
        queues.sort_by_key(|queue| queue.queue_id);
        let command = crate::command::Command::Checkout(wire::Checkout {
            group_id: wish.ids.0,
            topic_id: wish.ids.1,
            queues,
            visible_at_ms: wish.visible_at_ms,
            renew_client_id: wish.renew_client_id.to_owned(),
        });
        // Under the lock: the log sees checkouts in the order of their reservations.
        let submitted = place.submit(&command);
        Ok(Chosen { submitted, units: pick.units, again, more: pick.more })
    }

    pub(crate) fn confirm(&self, receipt: &wire::Receipt) {
        self.confirmed.lock().insert((receipt.queue_id, receipt.offset), receipt.nonce);
    }

    pub(crate) fn is_confirmed(&self, receipt: &wire::Receipt) -> bool {
        self.confirmed.lock().get(&(receipt.queue_id, receipt.offset)) == Some(&receipt.nonce)
    }

    /// Forgets deliveries that have ended.
    pub(crate) fn forget_ended(&self, consumption: &state::Consumption) {
        self.confirmed.lock().retain(|(queue_id, offset), nonce| {
            let progress = consumption.queues.get(*queue_id as usize);
            let record = progress.and_then(|progress| progress.inflight.get(offset));
            record.is_some_and(|record| record.nonce == *nonce)
        });
    }

    /// Takes back the reservations of a checkout whose outcome is known.
    pub(crate) fn decided(&self, chosen_again: &[(u32, u64)], matched: bool) {
        let mut choice = self.choice.lock();
        choice.under_way -= 1;
        choice.stale |= !matched;
        for place in chosen_again {
            choice.again.remove(place);
        }
    }
}

impl Chosen {
    /// The redeliveries among what was chosen.
    pub(crate) fn again(&self) -> Vec<(u32, u64)> {
        self.again.clone()
    }
}

/// What one choice has gathered.
#[derive(Default)]
struct Pick {
    queues: HashMap<u32, wire::QueueCheckout>,
    units: HashMap<(u32, u64), Unit>,
    bytes: u64,
    more: bool,
}

impl Pick {
    /// Whether another message would be more than was asked for, or than an answer should hold.
    fn is_full(&self, wish: &Wish<'_>) -> bool {
        self.units.len() >= wish.count || self.bytes >= ANSWER_BYTES_MAX
    }

    fn add(&mut self, queue_id: u32, offset: u64, unit: Unit) {
        self.bytes += u64::from(unit.length);
        self.units.insert((queue_id, offset), unit);
    }

    fn queue(&mut self, queue_id: u32) -> &mut wire::QueueCheckout {
        self.queues
            .entry(queue_id)
            .or_insert_with(|| wire::QueueCheckout { queue_id, ..Default::default() })
    }
}

impl Choice {
    /// Begins at the replicated cursor when that is needed and possible, and follows retention.
    fn settle(&mut self, state: &State, ids: (u32, u32)) {
        let Some(topic) = state.topics.get(&ids.1) else { return };
        let cursor = |queue_id: usize| {
            let progress = state.consumptions.get(&ids).and_then(|c| c.queues.get(queue_id));
            progress.map_or(topic.queues[queue_id].min, |progress| progress.next_offset)
        };
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

    fn pick_again(&self, state: &State, store: &StateStore, wish: &Wish<'_>, pick: &mut Pick) {
        let Some(consumption) = state.consumptions.get(&wish.ids) else { return };
        for (visible_at, queue_id, offset) in &consumption.due {
            if *visible_at > wish.now_ms {
                break;
            }
            if pick.is_full(wish) {
                pick.more = true;
                break;
            }
            let record = consumption
                .queues
                .get(*queue_id as usize)
                .and_then(|progress| progress.inflight.get(offset));
            // Exhausted messages are on their way to the dead letters.
            let exhausted = record.is_none_or(|record| record.attempt >= wish.max_attempts);
            // `upkeep` renews what a living owner holds well before its time; only when that did not
            // happen has the owner gone.
            let owned = record.is_some_and(|record| {
                !record.renew_client_id.is_empty() && visible_at + OWNER_GRACE_MS > wish.now_ms
            });
            if exhausted || owned || self.again.contains(&(*queue_id, *offset)) {
                continue;
            }
            let Some(unit) = state::unit(store, wish.ids.1, *queue_id, *offset) else { continue };
            if !wish.filter.may_match(unit.tag_hash) {
                continue;
            }
            pick.queue(*queue_id).again.push(*offset);
            pick.add(*queue_id, *offset, unit);
        }
    }

    fn pick_new(&mut self, state: &State, store: &StateStore, wish: &Wish<'_>, pick: &mut Pick) {
        let Some(topic) = state.topics.get(&wish.ids.1) else { return };
        let queue_count = topic.queues.len();
        let mut scanned = 0;
        for step in 0..queue_count {
            let queue_id = (self.first_queue + step) % queue_count;
            let max = topic.queues[queue_id].max;
            let from = self.next[queue_id];
            if from >= max {
                continue;
            }
            if pick.is_full(wish) || scanned >= UNITS_SCANNED_MAX {
                pick.more = true;
                break;
            }
            let progress = state.consumptions.get(&wish.ids).and_then(|c| c.queues.get(queue_id));
            let inflight = progress.map_or(0, |progress| {
                progress.inflight.len() + (from - progress.next_offset.min(from)) as usize
            });
            if inflight >= INFLIGHT_MAX {
                metrics::counter!("raftmq_inflight_limit_reached_total").increment(1);
                continue;
            }
            let mut next = from;
            let mut taken = Vec::new();
            state::units(store, wish.ids.1, queue_id as u32, from, max, |offset, unit| {
                if pick.is_full(wish) || scanned >= UNITS_SCANNED_MAX {
                    return false;
                }
                scanned += 1;
                next = offset + 1;
                if wish.filter.may_match(unit.tag_hash) {
                    taken.push(offset);
                    pick.add(queue_id as u32, offset, unit);
                }
                true
            });
            if next > from {
                self.next[queue_id] = next;
                let queue = pick.queue(queue_id as u32);
                queue.from_offset = from;
                queue.next_offset = next;
                queue.taken = taken;
            }
            pick.more |= next < max;
        }
        self.first_queue = (self.first_queue + 1) % queue_count.max(1);
    }
}
