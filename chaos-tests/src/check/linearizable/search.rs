//! Looks for an order of operations that one copy of an object could have carried out.
//!
//! Source: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993), with the memory of
//! configurations of Lowe, "Testing for linearizability" (2017): a set of operations that led to a
//! state once is not tried again in another order.

use std::collections::HashSet;

use super::model::Model;

/// Most words of 64 operations that remembered configurations may take, about 256 MiB.
const MEMORY_WORDS_MAX: usize = 32 << 20;

/// One operation.
#[derive(Clone, Debug)]
pub struct Call<C, A> {
    /// What was done.
    pub call: C,
    /// What it told. None: every answer is right.
    pub answer: Option<A>,
    /// When it began.
    pub begin_ns: u64,
    /// When it had taken effect. None: nobody knows whether it did; it may at any time after its begin,
    /// or never. What certainly did not happen must not be among the operations.
    pub end_ns: Option<u64>,
}

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// There is an order.
    Found,
    /// There is none.
    None {
        /// The operation (its place in the slice) at which the longest attempt ended.
        stuck: usize,
        /// How many operations that attempt had put in order.
        explained: usize,
    },
    /// The bound was reached first.
    TooHard {
        /// How many steps were tried.
        steps: usize,
    },
}

/// Whether there is an order of `calls` in which each took effect between its begin and its end and
/// answered as it did. Calls that touch in time count as concurrent. Tries at most `steps_max` steps
/// of the model.
pub fn search<M: Model>(model: &M, calls: &[Call<M::Call, M::Answer>], steps_max: usize) -> Order {
    let mut line = Line::new(calls);
    let mut done = Set::new(calls.len());
    let mut tried: HashSet<(Set, M::State)> = HashSet::new();
    let tried_max = MEMORY_WORDS_MAX / done.words.len().max(1);
    let mut state = model.initial();
    // Operations in the order under trial, each with the state before it.
    let mut order: Vec<(usize, M::State)> = Vec::new();
    let (mut stuck, mut explained) = (0, 0);
    let mut steps = 0;
    let mut at = line.first();
    while line.ends_left > 0 {
        match line.item(at) {
            Some(Item::Begin(number)) => {
                steps += 1;
                if steps > steps_max || tried.len() > tried_max {
                    return Order::TooHard { steps: steps - 1 };
                }
                let Call { call, answer, .. } = &calls[number];
                let next = model.step(&state, call, answer.as_ref()).filter(|next| {
                    done.insert(number);
                    let is_new = tried.insert((done.clone(), next.clone()));
                    done.remove(number);
                    is_new
                });
                match next {
                    Some(next) => {
                        done.insert(number);
                        order.push((number, std::mem::replace(&mut state, next)));
                        line.take_out(number);
                        at = line.first();
                    }
                    None => at = line.after(at),
                }
            }
            // It is over and was not put in order: the last choice was wrong.
            end => {
                if let Some(Item::End(number)) = end
                    && (order.len() >= explained || explained == 0)
                {
                    (stuck, explained) = (number, order.len());
                }
                let Some((number, before)) = order.pop() else {
                    return Order::None { stuck, explained };
                };
                state = before;
                done.remove(number);
                line.put_back(number);
                at = line.after(line.begin_of(number));
            }
        }
    }
    Order::Found
}

/// Begins and ends in the order of time, as a list from which operations are taken and put back in
/// reverse. Places: 0 is the head; operation n begins at 2n + 1 and ends at 2n + 2.
struct Line {
    next: Vec<usize>,
    previous: Vec<usize>,
    has_end: Vec<bool>,
    ends_left: usize,
}

enum Item {
    Begin(usize),
    End(usize),
}

impl Line {
    fn new<C, A>(calls: &[Call<C, A>]) -> Self {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            moments.push((call.begin_ns, false, 2 * number + 1));
            // An end before its own begin would be lost: odd input counts as an instant.
            let end_ns = call.end_ns.map(|end_ns| end_ns.max(call.begin_ns));
            moments.extend(end_ns.map(|end_ns| (end_ns, true, 2 * number + 2)));
        }
        // Begins first among equals: what touches is concurrent.
        moments.sort_unstable();
        let mut line = Self {
            next: vec![0; 2 * calls.len() + 1],
            previous: vec![0; 2 * calls.len() + 1],
            has_end: calls.iter().map(|call| call.end_ns.is_some()).collect(),
            ends_left: calls.iter().filter(|call| call.end_ns.is_some()).count(),
        };
        let mut last = 0;
        for (_, _, place) in moments {
            line.link(last, place);
            last = place;
        }
        line.link(last, 0);
        line
    }

    fn link(&mut self, one: usize, other: usize) {
        self.next[one] = other;
        self.previous[other] = one;
    }

    fn first(&self) -> usize {
        self.next[0]
    }

    fn after(&self, place: usize) -> usize {
        self.next[place]
    }

    fn begin_of(&self, number: usize) -> usize {
        2 * number + 1
    }

    /// None at the end of the list.
    fn item(&self, place: usize) -> Option<Item> {
        match (place, place % 2) {
            (0, _) => None,
            (_, 1) => Some(Item::Begin(place / 2)),
            _ => Some(Item::End(place / 2 - 1)),
        }
    }

    fn take_out(&mut self, number: usize) {
        let begin = self.begin_of(number);
        self.unlink(begin);
        if self.has_end[number] {
            self.unlink(begin + 1);
            self.ends_left -= 1;
        }
    }

    /// In the reverse order of taking out.
    fn put_back(&mut self, number: usize) {
        let begin = self.begin_of(number);
        if self.has_end[number] {
            self.relink(begin + 1);
            self.ends_left += 1;
        }
        self.relink(begin);
    }

    fn unlink(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = next;
        self.previous[next] = previous;
    }

    fn relink(&mut self, place: usize) {
        let (previous, next) = (self.previous[place], self.next[place]);
        self.next[previous] = place;
        self.previous[next] = place;
    }
}

/// A set of operations.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Set {
    words: Box<[u64]>,
}

impl Set {
    fn new(count: usize) -> Self {
        Self { words: vec![0; count.div_ceil(64)].into_boxed_slice() }
    }

    fn insert(&mut self, number: usize) {
        self.words[number / 64] |= 1 << (number % 64);
    }

    fn remove(&mut self, number: usize) {
        self.words[number / 64] &= !(1 << (number % 64));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::model::RegisterCall::{Read, Write};
    use super::super::model::{Offset, Register, RegisterCall};
    use super::*;

    type RegisterCalls = Vec<Call<RegisterCall, u64>>;

    const STEPS_MAX: usize = 100_000;

    fn write(value: u64, begin_ns: u64, end_ns: u64) -> Call<RegisterCall, u64> {
        Call { call: Write(value), answer: None, begin_ns, end_ns: Some(end_ns) }
    }

    fn unknown(value: u64, begin_ns: u64) -> Call<RegisterCall, u64> {
        Call { call: Write(value), answer: None, begin_ns, end_ns: None }
    }

    fn read(value: u64, begin_ns: u64, end_ns: u64) -> Call<RegisterCall, u64> {
        Call { call: Read, answer: Some(value), begin_ns, end_ns: Some(end_ns) }
    }

    fn has_order(calls: &[Call<RegisterCall, u64>]) -> bool {
        search(&Register, calls, STEPS_MAX) == Order::Found
    }

    #[test]
    fn one_after_the_other() {
        assert!(has_order(&[]));
        assert!(has_order(&[read(0, 0, 1), write(1, 2, 3), read(1, 4, 5)]));
        assert!(!has_order(&[write(1, 0, 1), read(0, 2, 3)]));
        assert!(!has_order(&[write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)]));
    }

    #[test]
    fn a_concurrent_read_sees_the_old_or_the_new_value_but_never_goes_back() {
        assert!(has_order(&[write(1, 0, 10), read(0, 1, 2), read(1, 3, 4)]));
        assert!(!has_order(&[write(1, 0, 10), read(1, 1, 2), read(0, 3, 4)]));
        assert!(has_order(&[write(1, 0, 10), read(1, 1, 5), read(0, 3, 4)]));
    }

    #[test]
    fn concurrent_writes_have_one_order_for_all_readers() {
        let writes = [write(1, 0, 10), write(2, 0, 10)];
        let two = |first, second| {
            let reads = [read(first, 11, 20), read(second, 21, 30)];
            has_order(&[writes.to_vec(), reads.to_vec()].concat())
        };
        assert!(two(1, 1) && two(2, 2));
        assert!(!two(1, 2));
    }

    #[test]
    fn what_touches_is_concurrent() {
        assert!(has_order(&[write(1, 0, 5), read(0, 5, 6)]));
        assert!(!has_order(&[write(1, 0, 5), read(0, 6, 7)]));
    }

    #[test]
    fn an_unknown_operation_happens_at_any_time_or_never() {
        let reads = |first, second, third| {
            has_order(&[unknown(1, 2), read(first, 3, 4), read(second, 5, 6), read(third, 7, 8)])
        };
        assert!(reads(0, 0, 0) && reads(0, 0, 1) && reads(0, 1, 1) && reads(1, 1, 1));
        assert!(!reads(0, 1, 0) && !reads(1, 0, 0));
        // Not before it began.
        assert!(!has_order(&[read(1, 0, 1), unknown(1, 2)]));
        assert!(has_order(&[unknown(1, 0), unknown(2, 0)]));
    }

    #[test]
    fn an_offset_that_goes_back_has_no_order() {
        let offset = |calls: &[_]| search(&Offset, calls, STEPS_MAX) == Order::Found;
        assert!(offset(&[write(5, 0, 1), write(3, 2, 3), read(5, 4, 5)]));
        assert!(!offset(&[write(5, 0, 1), write(3, 2, 3), read(3, 4, 5)]));
    }

    #[test]
    fn the_operation_at_which_it_ends_is_named() {
        let calls = [write(1, 0, 1), read(1, 2, 3), read(7, 4, 5), read(1, 6, 7)];
        let order = search(&Register, &calls, STEPS_MAX);
        assert_eq!(order, Order::None { stuck: 2, explained: 2 });
    }

    #[test]
    fn work_is_bounded() {
        // Nobody reads 99, and any subset of the writes may have happened.
        let mut calls: RegisterCalls = (0..40).map(|value| unknown(value, 0)).collect();
        calls.push(read(99, 10, 11));
        assert_eq!(search(&Register, &calls, 1000), Order::TooHard { steps: 1000 });
    }

    #[test]
    fn thousands_of_operations_are_quick() {
        let mut calls = RegisterCalls::new();
        for number in 1..2500 {
            calls.push(write(number, number * 10, number * 10 + 8));
            calls.push(read(number, number * 10 + 4, number * 10 + 12));
        }
        assert!(has_order(&calls));
        calls.push(read(1, 30_000, 30_001));
        assert!(matches!(search(&Register, &calls, STEPS_MAX), Order::None { stuck: 4998, .. }));
    }

    /// Every order of every choice of unknown operations.
    fn has_order_by_trying_all(
        calls: &[Call<RegisterCall, u64>],
        done: &mut [bool],
        state: u64,
    ) -> bool {
        let open = |number: &usize| !done[*number];
        let left: Vec<usize> = (0..calls.len()).filter(open).collect();
        if left.iter().all(|&number| calls[number].end_ns.is_none()) {
            return true;
        }
        left.iter().any(|&number| {
            let call = &calls[number];
            let comes_first = left.iter().all(|&other| {
                other == number || calls[other].end_ns.is_none_or(|end_ns| end_ns >= call.begin_ns)
            });
            let next = Register.step(&state, &call.call, call.answer.as_ref());
            let Some(next) = next.filter(|_| comes_first) else { return false };
            done[number] = true;
            let found = has_order_by_trying_all(calls, done, next);
            done[number] = false;
            found
        })
    }

    fn any_call() -> impl Strategy<Value = Call<RegisterCall, u64>> {
        let kinds = (any::<bool>(), 0_u64..3, 0_u64..12, 1_u64..8, 0_u8..5);
        kinds.prop_map(|(is_write, value, begin_ns, took_ns, fate)| {
            let end_ns = (fate > 0).then_some(begin_ns + took_ns);
            let (call, answer) =
                if is_write { (Write(value), None) } else { (Read, end_ns.map(|_| value)) };
            Call { call, answer, begin_ns, end_ns }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn it_agrees_with_trying_all_orders(calls in prop::collection::vec(any_call(), 0..7)) {
            let expected = has_order_by_trying_all(&calls, &mut vec![false; calls.len()], 0);
            let order = search(&Register, &calls, STEPS_MAX);
            let is_bounded = matches!(order, Order::TooHard { .. });
            prop_assert!(!is_bounded);
            prop_assert_eq!(order == Order::Found, expected);
        }
    }

    #[test]
    fn random_histories_have_both_results() {
        use proptest::strategy::ValueTree;
        use proptest::test_runner::TestRunner;
        let mut runner = TestRunner::deterministic();
        let calls = prop::collection::vec(any_call(), 0..7);
        let mut found = 0;
        for _ in 0..500 {
            found += usize::from(has_order(&calls.new_tree(&mut runner).unwrap().current()));
        }
        assert!((50..450).contains(&found), "{found} of 500 have an order");
    }
}
