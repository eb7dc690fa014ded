//! Topics and consumer groups behave as if there were one copy of them and one operation at a time.
//!
//! - [`search()`]: whether operations of one object have such an order.
//! - [`model`]: what one copy of an object does.
//!
//! Each topic and group is an object of its own: if each has such an order, all together have one.

pub mod model;
mod search;

use std::collections::BTreeMap;

use self::model::{Existence, Verb};
pub use self::model::{Model, Offset, Register, RegisterCall};
pub use self::search::{Call, Order, search};
use super::judge::Judge;
use super::operation::Outcome;
use super::view::{Admin, View};
use super::{Checker, Expectations, Finding};

/// For each topic and group, its creations, deletions and readings have an order that agrees with
/// time and explains every answer about whether it existed. An operation without known outcome may
/// have happened at any time after its begin, or never.
///
/// Unknown for an object whose search takes more than
/// [`Expectations::linearizable_steps_max`] steps.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Linearizable);
    let (objects, malformed) = objects(view, expect);
    let mut operations = 0;
    for ((kind, name), admins) in &objects {
        operations += admins.len();
        let calls: Vec<_> = admins.iter().map(|(admin, verb)| call(admin, *verb)).collect();
        match search(&Existence, &calls, expect.linearizable_steps_max) {
            Order::Found => (),
            Order::None { stuck, explained } => {
                let stuck = admins.get(stuck).map(|(admin, _)| *admin);
                let what = stuck.map_or_else(String::new, |admin| format!(": {}", sentence(admin)));
                let all = admins.len();
                let text = format!(
                    "{kind} {name}: at most {explained} of {all} operations have an order{what}"
                );
                judge.violation(text, stuck.into_iter().flat_map(|admin| admin.operation.lines()));
            }
            Order::TooHard { steps } => {
                judge.unknown(format!("{kind} {name}: no answer within {steps} steps"));
            }
        }
    }
    if malformed > 0 {
        judge.unknown(format!("{malformed} operations are none of create, delete and read"));
    }
    if operations == 0 {
        judge.unknown("no topic or group was made, deleted or looked at");
    }
    judge.count("objects", objects.len());
    judge.count("operations", operations);
    judge.finish(format!("{operations} operations on {} topics and groups", objects.len()))
}

type Objects<'v> = BTreeMap<(&'v str, &'v str), Vec<(&'v Admin<'v>, Verb)>>;

/// Operations that may have an effect or tell something, by kind and name; and how many have no verb
/// that is known.
fn objects<'v>(view: &'v View<'_>, expect: &Expectations) -> (Objects<'v>, usize) {
    let (mut objects, mut malformed) = (Objects::new(), 0);
    for admin in &view.admins {
        let Some(verb) = Verb::parse(admin.verb) else {
            malformed += 1;
            continue;
        };
        let outcome = admin.operation.outcome();
        let tells_nothing = verb == Verb::Read
            && (outcome != Outcome::Ok
                || admin.existed.is_none()
                || expect.admin_reads_may_be_stale);
        if outcome != Outcome::Fail && !tells_nothing {
            objects.entry((admin.kind, admin.name)).or_default().push((admin, verb));
        }
    }
    (objects, malformed)
}

fn call(admin: &Admin<'_>, verb: Verb) -> Call<Verb, bool> {
    let end_ns = admin.operation.ok_ns();
    let answer = end_ns.and(admin.existed);
    Call { call: verb, answer, begin_ns: admin.operation.invoke_ns(), end_ns }
}

fn sentence(admin: &Admin<'_>) -> String {
    let saw = match admin.existed {
        Some(true) => "which found it",
        Some(false) => "which did not find it",
        None => "which tells nothing",
    };
    format!("nothing explains the {} at line {}, {saw}", admin.verb, admin.operation.invoke.index)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;
    use crate::history::{Action, Phase};

    fn judged(history: &History) -> Finding {
        check(&View::new(&history.events), &Expectations::default())
    }

    fn admin(verb: &str, existed: Option<bool>) -> Action {
        Action::Admin { kind: "topic".into(), name: "x".into(), verb: verb.into(), existed }
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good());
        assert_eq!((finding.verdict, finding.figures["operations"]), (Verdict::Pass, 2.0));
    }

    #[test]
    fn a_topic_that_vanishes_is_found() {
        let mut history = History::new();
        history.admin(1, "topic", "x", "create", Some(false));
        history.admin(1, "group", "x", "read", Some(false));
        history.admin(2, "topic", "x", "read", Some(false));
        let finding = judged(&history);
        let text = "topic x: at most 1 of 2 operations have an order: nothing explains the read at \
                    line 4, which did not find it";
        assert_eq!(finding.violations[0].text, text);
        assert_eq!(finding.violations[0].events, [4, 5]);
    }

    #[test]
    fn a_topic_that_was_made_twice_is_found() {
        let mut history = History::new();
        history.admin(1, "topic", "x", "create", Some(false));
        history.admin(2, "topic", "x", "create", Some(false));
        assert_eq!(judged(&history).verdict, Verdict::Fail);
    }

    #[test]
    fn what_was_there_before_the_run_is_not_known() {
        let mut history = History::new();
        history.admin(1, "topic", "x", "read", Some(true)).admin(1, "topic", "y", "read", None);
        history.admin(1, "topic", "x", "delete", Some(true));
        history.admin(1, "topic", "x", "delete", Some(false));
        assert_eq!(judged(&history).verdict, Verdict::Pass);
    }

    #[test]
    fn an_unknown_deletion_may_happen_late_or_never_but_only_once() {
        let mut history = History::new();
        history.admin(1, "topic", "x", "create", Some(false));
        history.push(2, Phase::Invoke, admin("delete", None), None);
        history.push(2, Phase::Unknown, admin("delete", None), None);
        history.admin(3, "topic", "x", "read", Some(true));
        assert_eq!(judged(&history).verdict, Verdict::Pass);
        history.admin(3, "topic", "x", "read", Some(false));
        assert_eq!(judged(&history).verdict, Verdict::Pass);
        history.admin(3, "topic", "x", "read", Some(true));
        assert_eq!(judged(&history).verdict, Verdict::Fail);
    }

    #[test]
    fn a_deletion_that_failed_never_happens() {
        let mut history = History::new();
        history.admin(1, "topic", "x", "create", Some(false));
        history.push(2, Phase::Invoke, admin("delete", None), None);
        history.push(2, Phase::Fail, admin("delete", None), None);
        history.admin(3, "topic", "x", "read", Some(false));
        assert_eq!(judged(&history).verdict, Verdict::Fail);
        let stale = Expectations { admin_reads_may_be_stale: true, ..Expectations::default() };
        assert_eq!(check(&View::new(&history.events), &stale).verdict, Verdict::Pass);
    }

    #[test]
    fn a_search_that_takes_too_long_is_unknown() {
        let mut history = History::new();
        history.admin(1, "topic", "x", "create", Some(false));
        history.admin(1, "topic", "x", "read", Some(true));
        let expect = Expectations { linearizable_steps_max: 1, ..Expectations::default() };
        let finding = check(&View::new(&history.events), &expect);
        assert_eq!(finding.verdict, Verdict::Unknown);
        assert!(finding.note.ends_with("topic x: no answer within 1 steps"), "{}", finding.note);
    }

    #[test]
    fn without_operations_or_with_odd_ones_it_is_unknown() {
        assert_eq!(judged(&History::new()).verdict, Verdict::Unknown);
        let mut history = History::new();
        history.admin(1, "topic", "x", "create", Some(false)).admin(1, "topic", "x", "bend", None);
        assert_eq!(judged(&history).verdict, Verdict::Unknown);
    }
}
