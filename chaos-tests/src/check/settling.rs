//! How long after a fault sends are still answered more slowly than before it.

use super::Expectations;
use super::judge::{Judge, ms};
use super::operation::Outcome;
use super::view::View;
use super::window::Window;

/// Latencies are those of sends begun in a time of this length.
const OVER_NS: u64 = 1_000_000_000;
/// As quickly as before: nine of ten within three times what nine of ten took before, and this.
const SLACK_NS: u64 = 50_000_000;
/// Fewer sends before the fault do not tell what is usual.
const USUAL_MIN: usize = 100;

/// Compares the time it takes with the limit that a drill gives, if it gives one.
pub(super) fn judge(
    view: &View<'_>,
    window: &Window<'_>,
    expect: &Expectations,
    judge: &mut Judge,
) {
    let (Some(limit_ms), Some(end)) = (expect.settling_max_ms, window.end) else { return };
    let title = window.title();
    let sends = Sends::of(view);
    let first_ns = view.windows.first().map_or(0, |first| first.begin.time_ns);
    let usual = sends.begun(0, first_ns);
    if usual.len() < USUAL_MIN {
        judge.unknown(format!("{title}: too few sends before it tell how quick they usually are"));
        return;
    }
    let bound_ns = 3 * nine_of_ten(usual) + SLACK_NS;
    let end_ns = end.time_ns;
    let is_quick = |from_ns: u64| {
        let begun = sends.begun(from_ns, from_ns + OVER_NS);
        !begun.is_empty() && nine_of_ten(begun) <= bound_ns
    };
    let last_ns = end_ns + limit_ms * 1_000_000;
    if !(end_ns..=last_ns).step_by(OVER_NS as usize / 4).any(is_quick) {
        let bound_ms = ms(bound_ns);
        let text = format!(
            "{title}: {limit_ms} ms after its end nine of ten sends still took more than {bound_ms} ms"
        );
        judge.violation(text, window.lines());
    }
}

/// Begin and latency of every send that was acknowledged or given up, by begin.
struct Sends(Vec<(u64, u64)>);

impl Sends {
    fn of(view: &View<'_>) -> Self {
        let ended = view.sends.iter().filter(|send| send.operation.outcome() != Outcome::Fail);
        let times = ended.filter_map(|send| {
            let begin_ns = send.operation.invoke_ns();
            Some((begin_ns, send.operation.end?.time_ns - begin_ns))
        });
        let mut times: Vec<_> = times.collect();
        times.sort_unstable();
        Self(times)
    }

    fn begun(&self, from_ns: u64, until_ns: u64) -> &[(u64, u64)] {
        let place = |at_ns: u64| self.0.partition_point(|(begin_ns, _)| *begin_ns < at_ns);
        &self.0[place(from_ns)..place(until_ns)]
    }
}

/// The latency that nine of ten do not exceed.
fn nine_of_ten(sends: &[(u64, u64)]) -> u64 {
    let mut latencies: Vec<u64> = sends.iter().map(|(_, latency_ns)| *latency_ns).collect();
    latencies.sort_unstable();
    latencies.get(latencies.len().saturating_sub(1) * 9 / 10).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::availability::check;
    use super::super::fixture::History;
    use super::*;

    /// One send after the other; each takes 5 ms before the fault of 1 s, and from its end on `slow_ms` for
    /// two seconds.
    fn verdict(slow_ms: u64, limit_ms: u64) -> Verdict {
        let mut history = History::new();
        let mut number = 0;
        let mut send_for = |history: &mut History, from_ms: u64, until_ms: u64, takes_ms: u64| {
            for at in (from_ms..until_ms).step_by(takes_ms.max(10) as usize) {
                number += 1;
                let value = format!("m{number}");
                history.at(at).send_begins(1, &value).at(at + takes_ms).send_ok(1, &value, number);
            }
        };
        send_for(&mut history, 0, 2000, 5);
        history.at(2000).fault_begins("overload", "n1");
        history.at(3000).fault_ends("overload", "n1", true);
        send_for(&mut history, 3000, 5000, slow_ms);
        send_for(&mut history, 5000, 9000, 5);
        history.at(10_000).mark("drain").mark("drained").mark("end");
        let expect = Expectations { settling_max_ms: Some(limit_ms), ..Expectations::default() };
        check(&View::new(&history.events), &expect).verdict
    }

    #[test]
    fn slow_sends_after_a_fault_are_a_violation_if_they_last() {
        assert_eq!(verdict(500, 1000), Verdict::Fail);
        assert_eq!(verdict(500, 4000), Verdict::Pass);
        assert_eq!(verdict(20, 0), Verdict::Pass);
    }
}
