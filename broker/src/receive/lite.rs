//! Choosing among lite topics: a member is handed messages of those it subscribes to.
//!
//! A member's lite topics may be thousands, so nobody looks at all of them for each message: those that
//! may have something for it are noted when something happens to them, and looked at in turn.
//!
//! Invariants: a lite topic's messages go out in its order, nothing further while one of them is out; a
//! lite topic has one checkout under way at a time, several lite topics may have theirs at once.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use raftmq_proto::raftmq as wire;
use raftmq_raft_store::planted::Bug;
use raftmq_raft_store::planted::planted;
use raftmq_raft_store::state::StateStore;
use tokio::sync::Notify;

use super::lane::Chosen;
use super::lane::Lane;
use super::lane::Looked;
use super::lane::Pick;
use super::lane::Wish;
use super::lane::came_back;
use super::lane::submit;
use crate::proposer::Place;
use crate::state;
use crate::state::Consumption;
use crate::state::State;

/// What a lane knows of the lite topics of its parent topic.
#[derive(Default)]
pub(super) struct LiteLane(Mutex<Members>);

#[derive(Default)]
struct Members {
    by_client: HashMap<String, Member>,
    /// Lite topics with a checkout under way.
    busy: HashSet<u32>,
}

/// A client that receives.
struct Member {
    /// Lite topics that may have something for it.
    ready: BTreeSet<u32>,
    /// Where to look first, so that none is favoured.
    first: u32,
    /// All that it subscribes to may have something for it.
    all: bool,
    woken: Arc<Notify>,
}

impl Default for Member {
    fn default() -> Self {
        Self { ready: BTreeSet::new(), first: 0, all: true, woken: Arc::default() }
    }
}

impl Member {
    /// The next one to look at; it is no longer noted then.
    fn next(&mut self) -> Option<u32> {
        let next = self.ready.range(self.first..).next().or_else(|| self.ready.first()).copied()?;
        self.ready.remove(&next);
        self.first = next.wrapping_add(1);
        Some(next)
    }
}

impl LiteLane {
    /// What wakes receives of this client.
    pub(super) fn woken(&self, client_id: &str) -> Arc<Notify> {
        let mut members = self.0.lock();
        if let Some(member) = members.by_client.get(client_id) {
            return member.woken.clone();
        }
        members.by_client.entry(client_id.to_owned()).or_default().woken.clone()
    }

    /// The client looks at all that it subscribes to next time: what woke it may have got lost.
    pub(super) fn look_at_all(&self, client_id: &str) {
        if let Some(member) = self.0.lock().by_client.get_mut(client_id) {
            member.all = true;
        }
    }

    /// Something happened to a lite topic that lets its subscribers go on.
    pub(super) fn arrived(&self, consumption: &Consumption, queue_id: u32) {
        let mut members = self.0.lock();
        for client_id in consumption.lite.subscribers(queue_id) {
            if let Some(member) = members.by_client.get_mut(&**client_id) {
                member.ready.insert(queue_id);
                member.woken.notify_one();
            }
        }
    }

    /// The outcome of a checkout of these lite topics is known.
    pub(super) fn decided(&self, queue_ids: &[u32]) {
        let mut members = self.0.lock();
        for queue_id in queue_ids {
            members.busy.remove(queue_id);
        }
        for member in members.by_client.values_mut() {
            if queue_ids.iter().any(|queue_id| member.ready.contains(queue_id)) {
                member.woken.notify_one();
            }
        }
    }

    /// Forgets clients that subscribe to nothing and do not wait.
    pub(super) fn forget_gone(&self, consumption: &Consumption) {
        self.0.lock().by_client.retain(|client_id, member| {
            consumption.lite.of_client(client_id).is_some() || Arc::strong_count(&member.woken) > 1
        });
    }
}

impl Lane {
    /// Like [`Lane::choose`], for a topic of lite topics.
    pub(crate) fn choose_lite(
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
        let Some(subscribed) = consumption.lite.of_client(wish.client_id) else {
            return Err(place);
        };
        let looked = Looked { began_ms: 0, topic, consumption, store, wish, others: &[] };
        let mut members = self.lite.0.lock();
        let mut pick = Pick::default();
        members.pick_reread(&looked, &mut pick);
        if pick.queues.is_empty() {
            members.pick(&looked, subscribed, &mut pick);
        }
        if pick.queues.is_empty() {
            return Err(place);
        }
        let queue_ids: Vec<u32> = pick.queues.keys().copied().collect();
        members.busy.extend(&queue_ids);
        // Under the lock: what is busy is under way.
        let mut chosen = submit(pick, wish, place);
        chosen.lite = queue_ids;
        Ok(chosen)
    }
}

impl Members {
    /// What went to the same attempt before, whose answer got lost.
    fn pick_reread(&self, looked: &Looked<'_>, pick: &mut Pick) {
        let Some(places) = looked.consumption.attempts.get(&looked.wish.attempt_hash) else {
            return;
        };
        for (queue_id, offset) in places {
            let first =
                looked.consumption.progress(*queue_id).and_then(|it| it.inflight.keys().next());
            let in_order = first.is_some_and(|first| {
                first == offset || pick.units.contains_key(&(*queue_id, *first))
            });
            if self.busy.contains(queue_id) || !in_order {
                continue;
            }
            let Some(unit) = looked.unit(*queue_id, *offset) else { continue };
            pick.add_reread(*queue_id, *offset, unit);
        }
    }

    fn pick(&mut self, looked: &Looked<'_>, subscribed: &BTreeSet<u32>, pick: &mut Pick) {
        let Self { by_client, busy } = self;
        let member = by_client.entry(looked.wish.client_id.to_owned()).or_default();
        if std::mem::take(&mut member.all) {
            member.ready.clone_from(subscribed);
        }
        let mut waiting = Vec::new();
        while let Some(queue_id) = member.next() {
            if busy.contains(&queue_id) {
                waiting.push(queue_id);
            } else if subscribed.contains(&queue_id) {
                pick_of(looked, queue_id, pick);
            }
            // Clients that work off an answer one by one would let a failing message hold up others.
            let only_one = looked.wish.one_lite_topic && !pick.queues.is_empty();
            if only_one || pick.is_full(looked.wish) {
                break;
            }
        }
        pick.more |= !member.ready.is_empty();
        member.ready.extend(waiting);
    }
}

/// What may go of one lite topic: what came back, from its first message on, or what is new.
fn pick_of(looked: &Looked<'_>, queue_id: u32, pick: &mut Pick) {
    let Some(progress) = looked.consumption.progress(queue_id) else { return };
    let Some(queue) = looked.topic.queue(queue_id) else { return };
    if !progress.inflight.is_empty() {
        for (offset, record) in &progress.inflight {
            let Some(unit) = looked.unit(queue_id, *offset) else { break };
            if pick.is_full(looked.wish) || !came_back(looked.wish, record) {
                break;
            }
            pick.add_again(queue_id, *offset, unit);
        }
        if !planted(Bug::LiteOrderIgnored) || pick.queues.contains_key(&queue_id) {
            return;
        }
    }
    let (from_offset, max) = (progress.next_offset.max(queue.min), queue.max);
    let mut part =
        wire::QueueCheckout { queue_id, from_offset, next_offset: max, ..Default::default() };
    state::units(looked.store, looked.wish.ids.1, queue_id, from_offset, max, |offset, unit| {
        if pick.is_full(looked.wish) {
            part.next_offset = offset;
            return false;
        }
        part.taken.push(offset);
        part.taken_groups.push(unit.group_hash);
        pick.add(queue_id, offset, unit);
        true
    });
    if part.next_offset > from_offset {
        pick.queues.insert(queue_id, part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lite_topics_are_looked_at_in_turn() {
        let mut member = Member::default();
        member.ready.extend([3, 5, 7]);
        assert_eq!(member.next(), Some(3));
        member.ready.insert(3);
        assert_eq!((member.next(), member.next(), member.next()), (Some(5), Some(7), Some(3)));
        assert_eq!(member.next(), None);
    }

    #[test]
    fn subscribers_are_woken_and_the_gone_forgotten() {
        let lane = LiteLane::default();
        let mut consumption = Consumption::default();
        consumption.subscribe_lite("a", 9);
        drop(lane.woken("a"));
        drop(lane.woken("b"));
        let waiting = lane.woken("c");
        lane.arrived(&consumption, 9);
        assert!(lane.0.lock().by_client["a"].ready.contains(&9));
        assert!(lane.0.lock().by_client["b"].ready.is_empty());
        lane.forget_gone(&consumption);
        let mut known: Vec<_> = lane.0.lock().by_client.keys().cloned().collect();
        known.sort();
        assert_eq!(known, ["a", "c"]);
        drop(waiting);
        lane.forget_gone(&Consumption::default());
        assert!(lane.0.lock().by_client.is_empty());
    }
}
