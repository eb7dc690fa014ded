//! What one copy of an object does, one operation after the other.

use std::hash::Hash;

/// An object with operations.
pub trait Model {
    /// What it remembers.
    type State: Clone + Eq + Hash;
    /// An operation.
    type Call;
    /// What the operation tells.
    type Answer;

    /// Before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `call`, or none if it would not have had this answer. Without an answer every
    /// one is right.
    fn step(
        &self,
        state: &Self::State,
        call: &Self::Call,
        answer: Option<&Self::Answer>,
    ) -> Option<Self::State>;
}

/// A topic or consumer group, which is there or not. Answers tell whether it was there before. The
/// state is none as long as nothing has shown whether it was there when the history began.
#[derive(Clone, Copy, Debug)]
pub struct Existence;

/// What can be done to the existence of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Afterwards it is there.
    Create,
    /// Afterwards it is not.
    Delete,
    /// Nothing changes.
    Read,
}

impl Verb {
    /// The verb of an `admin` line.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "create" => Some(Self::Create),
            "delete" => Some(Self::Delete),
            "read" => Some(Self::Read),
            _ => None,
        }
    }
}

impl Model for Existence {
    type State = Option<bool>;
    type Call = Verb;
    type Answer = bool;

    fn initial(&self) -> Option<bool> {
        None
    }

    fn step(
        &self,
        state: &Option<bool>,
        call: &Verb,
        answer: Option<&bool>,
    ) -> Option<Option<bool>> {
        if let (Some(is), Some(told)) = (state, answer)
            && is != told
        {
            return None;
        }
        Some(match call {
            Verb::Create => Some(true),
            Verb::Delete => Some(false),
            Verb::Read => answer.copied().or(*state),
        })
    }
}

/// A number that is written and read. 0 before the first write.
#[derive(Clone, Copy, Debug)]
pub struct Register;

/// An operation on a [`Register`] or an [`Offset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterCall {
    /// Sets it. Of an [`Offset`]: moves it forward to here; never back.
    Write(u64),
    /// The answer is its value.
    Read,
}

impl Model for Register {
    type State = u64;
    type Call = RegisterCall;
    type Answer = u64;

    fn initial(&self) -> u64 {
        0
    }

    fn step(&self, state: &u64, call: &RegisterCall, answer: Option<&u64>) -> Option<u64> {
        match call {
            RegisterCall::Write(value) => Some(*value),
            RegisterCall::Read => answer.is_none_or(|told| told == state).then_some(*state),
        }
    }
}

/// A commit offset: it only moves forward. 0 at first.
#[derive(Clone, Copy, Debug)]
pub struct Offset;

impl Model for Offset {
    type State = u64;
    type Call = RegisterCall;
    type Answer = u64;

    fn initial(&self) -> u64 {
        0
    }

    fn step(&self, state: &u64, call: &RegisterCall, answer: Option<&u64>) -> Option<u64> {
        match call {
            RegisterCall::Write(offset) => Some(*state.max(offset)),
            RegisterCall::Read => answer.is_none_or(|told| told == state).then_some(*state),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existence_is_learned_from_the_first_answer() {
        let model = Existence;
        assert_eq!(model.step(&None, &Verb::Read, Some(&true)), Some(Some(true)));
        assert_eq!(model.step(&None, &Verb::Read, None), Some(None));
        assert_eq!(model.step(&Some(true), &Verb::Read, Some(&false)), None);
        assert_eq!(model.step(&Some(true), &Verb::Create, Some(&true)), Some(Some(true)));
        assert_eq!(model.step(&Some(true), &Verb::Delete, Some(&false)), None);
        assert_eq!(model.step(&Some(true), &Verb::Delete, None), Some(Some(false)));
    }

    #[test]
    fn a_register_takes_everything_and_an_offset_only_moves_forward() {
        assert_eq!(Register.step(&5, &RegisterCall::Write(3), None), Some(3));
        assert_eq!(Offset.step(&5, &RegisterCall::Write(3), None), Some(5));
        assert_eq!(Offset.step(&5, &RegisterCall::Write(8), None), Some(8));
        assert_eq!(Offset.step(&5, &RegisterCall::Read, Some(&4)), None);
        assert_eq!(Register.step(&5, &RegisterCall::Read, Some(&5)), Some(5));
    }
}
