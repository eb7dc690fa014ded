//! Enough happened: a run in which nothing went on during the faults, or whose faults had no effect,
//! proves nothing.

use super::judge::Judge;
use super::operation::Outcome;
use super::view::View;
use super::{Checker, Expectations, Finding};

/// Every fault ended, had an effect and met enough acknowledged sends; there were enough faults; the
/// drain was complete and nothing broke after it; every line has its place. Never fails: what lacks
/// makes it unknown.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Vacuity);
    let ok = ends_of_ok_sends(view);
    let mut least = None;
    for window in &view.windows {
        let title = window.title();
        let until_ns = window.end.map_or(u64::MAX, |end| end.time_ns);
        let from = ok.partition_point(|end| *end < window.begin.time_ns);
        let met = (ok.partition_point(|end| *end <= until_ns).saturating_sub(from)) as u64;
        least = Some(least.map_or(met, |least: u64| least.min(met)));
        match (window.end, window.bit) {
            (None, _) => judge.unknown(format!("{title} never ended")),
            (Some(_), Some(true)) => (),
            (Some(_), _) => judge.unknown(format!("{title} had no effect")),
        }
        if met < expect.ok_sends_per_fault_min {
            let min = expect.ok_sends_per_fault_min;
            judge.unknown(format!(
                "{title} met {met} acknowledged sends, at least {min} are needed"
            ));
        }
    }
    let (faults, min) = (view.windows.len(), expect.faults_min);
    if faults < min {
        judge.unknown(format!("faults made: {faults}, needed: at least {min}"));
    }
    judge_drain(view, &mut judge);
    if !view.stray.is_empty() {
        judge.unknown(format!("lines that end what never began: {}", view.stray.len()));
    }
    judge.count("faults", faults);
    judge.count("ok_sends", ok.len());
    judge.figure("ok_sends_per_fault_least", least.unwrap_or(0) as f64);
    judge.count("stray_lines", view.stray.len());
    judge.finish(format!("faults: {faults}, acknowledged sends: {}", ok.len()))
}

fn ends_of_ok_sends(view: &View<'_>) -> Vec<u64> {
    let ok = view.sends.iter().filter(|send| send.operation.outcome() == Outcome::Ok);
    let mut ends: Vec<u64> = ok.filter_map(|send| send.operation.ok_ns()).collect();
    ends.sort_unstable();
    ends
}

fn judge_drain(view: &View<'_>, judge: &mut Judge) {
    let Some(drained) = view.drained() else {
        judge.unknown("the drain was not complete: no mark `drained` and after it `end`");
        return;
    };
    let over =
        |end: Option<&crate::history::Event>| end.is_some_and(|end| end.index < drained.index);
    let late = view.windows.iter().filter(|window| !over(window.end));
    late.for_each(|window| judge.unknown(format!("{} lasted into the drain", window.title())));
    let sent = view.sends.iter().filter(|send| send.operation.invoke.index > drained.index).count();
    if sent > 0 {
        judge.unknown(format!("sends that began after the drain: {sent}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;

    fn note(history: &History, expect: &Expectations) -> String {
        let finding = check(&View::new(&history.events), expect);
        assert_eq!(finding.verdict, Verdict::Unknown, "{finding:?}");
        assert_eq!(finding.violations, []);
        finding.note
    }

    fn one_fault(bit: bool, sends: u64) -> History {
        let mut history = History::new();
        history.sent("before").fault_begins("kill", "n1");
        (0..sends).for_each(|offset| _ = history.sent_at("during", offset));
        history.fault_ends("kill", "n1", bit).sent("after").mark("drained").mark("end");
        history
    }

    #[test]
    fn a_good_history_passes() {
        for history in [History::good(), one_fault(true, 1)] {
            let finding = check(&View::new(&history.events), &Expectations::default());
            assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
        }
    }

    #[test]
    fn a_fault_without_effect_proves_nothing() {
        let note = note(&one_fault(false, 5), &Expectations::default());
        assert!(note.ends_with("unknown: kill of n1 had no effect"), "{note}");
    }

    #[test]
    fn a_fault_that_met_no_load_proves_nothing() {
        let expect = Expectations { ok_sends_per_fault_min: 3, ..Expectations::default() };
        let note = note(&one_fault(true, 2), &expect);
        let reason = "kill of n1 met 2 acknowledged sends, at least 3 are needed";
        assert!(note.ends_with(reason), "{note}");
    }

    #[test]
    fn a_fault_that_never_ended_proves_nothing() {
        let mut history = one_fault(true, 2);
        history.events.remove(7);
        let note = note(&history, &Expectations::default());
        assert!(
            note.contains("kill of n1 never ended, kill of n1 lasted into the drain"),
            "{note}"
        );
    }

    #[test]
    fn too_few_faults_prove_nothing() {
        let expect = Expectations { faults_min: 2, ..Expectations::default() };
        let note = note(&one_fault(true, 2), &expect);
        assert!(note.ends_with("faults made: 1, needed: at least 2"), "{note}");
    }

    #[test]
    fn an_incomplete_or_disturbed_drain_proves_nothing() {
        let mut history = one_fault(true, 2);
        history.events.pop();
        assert!(note(&history, &Expectations::default()).contains("the drain was not complete"));
        history.sent("late").mark("end");
        let note = note(&history, &Expectations::default());
        assert!(note.ends_with("sends that began after the drain: 1"), "{note}");
    }

    #[test]
    fn malformed_lines_prove_nothing() {
        let mut history = one_fault(true, 2);
        history.send_ok(99, "never begun", 0);
        let note = note(&history, &Expectations::default());
        assert!(note.ends_with("lines that end what never began: 1"), "{note}");
    }
}
