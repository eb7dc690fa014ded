//! How long nothing could be written, around each fault.
//!
//! Judges nothing by itself: only limits that a drill gives can be broken.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::judge::{Judge, ms};
use super::operation::Outcome;
use super::view::{Send, View};
use super::window::Window;
use super::{Checker, Expectations, Finding, settling};

/// A time without an acknowledged send counts as an outage if it is longer than this and than every
/// such time before the first fault: shorter ones come by chance on a busy machine.
const OUTAGE_MS_MIN: u64 = 200;

/// Share of the throughput before the first fault at which a run has recovered.
const RECOVERED_SHARE: f64 = 0.9;

/// Time over which throughput is measured.
const RECOVERED_OVER_NS: u64 = 1_000_000_000;

/// What a run was able to write, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Availability {
    /// How it was before the first fault.
    pub baseline: Baseline,
    /// Each fault, in the order of their begins.
    pub faults: Vec<FaultAvailability>,
    /// Every outage of the run, in order.
    pub outages: Vec<Outage>,
}

/// Acknowledged sends before the first fault.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// How many.
    pub sends_ok: u64,
    /// In each second, on average.
    pub sends_per_s: f64,
    /// Times between one and the next; 99.9 % are not longer.
    pub gap_p999_ms: u64,
    /// The longest of these.
    pub gap_max_ms: u64,
}

/// What clients saw of one fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultAvailability {
    /// Its name.
    pub name: String,
    /// Nodes or links.
    pub targets: Vec<String>,
    /// From when to when, nanoseconds since the run began. Without a line that it ended: until the
    /// load ended.
    pub begin_ns: u64,
    /// See `begin_ns`.
    pub end_ns: u64,
    /// Longest time between two acknowledged sends, from the last one before the fault to the next
    /// fault or the end of the load.
    pub write_gap_ms: u64,
    /// From the fault's begin to the first send acknowledged after that gap; 0: there was no outage.
    /// Absent: none was.
    pub resumed_ms: Option<u64>,
    /// From the fault's begin to the begin of the first second, not before the gap is over, with 90 %
    /// of the throughput of the baseline. Absent: there was none before the next fault.
    pub recovered_ms: Option<u64>,
    /// For how long that was looked for.
    pub watched_ms: u64,
    /// Sends that were acknowledged while the fault lasted.
    pub sends_ok: u64,
    /// In each second, on average.
    pub sends_per_s: f64,
    /// Sends that failed while it lasted.
    pub sends_failed: u64,
    /// Sends whose outcome nobody knows, given up or begun while it lasted.
    pub sends_unknown: u64,
}

/// A time without an acknowledged send, longer than any before the first fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outage {
    /// From when to when, nanoseconds since the run began.
    pub begin_ns: u64,
    /// See `begin_ns`.
    pub end_ns: u64,
    /// Whether it began while a fault lasted, or reached into one.
    pub in_fault: bool,
}

/// Measures a history.
pub fn measure(view: &View<'_>) -> Availability {
    measure_load(view, &Load::of(view, |_| true))
}

/// Measures what was sent to each topic by itself, sorted by topic: one client may stand still while
/// another one goes on. Topics of which nothing was acknowledged before the first fault are left out.
pub fn measure_topics<'a>(view: &View<'a>) -> BTreeMap<&'a str, Availability> {
    let topics: BTreeSet<&str> = view.sends.iter().map(|send| send.topic).collect();
    let of = |topic| (topic, measure_load(view, &Load::of(view, |send| send.topic == topic)));
    topics.into_iter().map(of).filter(|(_, measured)| measured.baseline.sends_ok > 1).collect()
}

fn measure_load(view: &View<'_>, load: &Load) -> Availability {
    let first_ns = view.windows.first().map_or(u64::MAX, |window| window.begin.time_ns);
    let baseline = load.baseline(first_ns);
    let faults: Vec<_> =
        view.windows.iter().map(|window| load.around(window, &view.windows, &baseline)).collect();
    let outages = load.outages(&baseline, &faults);
    Availability { baseline, faults, outages }
}

/// Compares what [`measure`] finds with the limits that a drill gives.
pub fn check(view: &View<'_>, expect: &Expectations) -> Finding {
    let mut judge = Judge::new(Checker::Availability);
    let measured = measure(view);
    let Availability { baseline, faults, outages } = &measured;
    if faults.is_empty() {
        judge.unknown("no fault was made");
    } else if baseline.sends_ok < 2 {
        judge.unknown("before the first fault fewer than two sends were acknowledged");
    }
    for (fault, window) in faults.iter().zip(&view.windows) {
        judge_gap(fault, window, "", expect, &mut judge);
        judge_recovery(fault, window, expect, &mut judge);
        settling::judge(view, window, expect, &mut judge);
    }
    judge_topics(view, expect, &mut judge);
    let most = |of: fn(&FaultAvailability) -> u64| faults.iter().map(of).max().unwrap_or(0) as f64;
    let sum = |of: fn(&FaultAvailability) -> u64| faults.iter().map(of).sum::<u64>() as f64;
    judge.figure("baseline_sends_per_s", baseline.sends_per_s);
    judge.figure("baseline_gap_p999_ms", baseline.gap_p999_ms as f64);
    judge.figure("baseline_gap_max_ms", baseline.gap_max_ms as f64);
    judge.figure("write_gap_max_ms", most(|fault| fault.write_gap_ms));
    judge.figure("recovered_max_ms", most(|fault| fault.recovered_ms.unwrap_or(0)));
    judge.count("not_recovered", faults.iter().filter(|one| one.recovered_ms.is_none()).count());
    judge.figure("sends_failed", sum(|fault| fault.sends_failed));
    judge.figure("sends_unknown", sum(|fault| fault.sends_unknown));
    judge.count("outages", outages.len());
    judge.count("outages_without_fault", outages.iter().filter(|one| !one.in_fault).count());
    let (longest, before) = (most(|fault| fault.write_gap_ms), baseline.gap_max_ms);
    let count = faults.len();
    judge.finish(format!("{count} faults; longest write gap {longest} ms, {before} ms before them"))
}

/// With several topics the limit holds for each.
fn judge_topics(view: &View<'_>, expect: &Expectations, judge: &mut Judge) {
    let topics = measure_topics(view);
    if topics.len() < 2 {
        return;
    }
    for (topic, Availability { faults, .. }) in topics {
        let longest = faults.iter().map(|fault| fault.write_gap_ms).max().unwrap_or(0);
        judge.figure(&format!("write_gap_max_ms_{topic}"), longest as f64);
        for (fault, window) in faults.iter().zip(&view.windows) {
            judge_gap(fault, window, &format!(" to topic {topic}"), expect, judge);
        }
    }
}

fn judge_gap(
    fault: &FaultAvailability,
    window: &Window<'_>,
    whither: &str,
    expect: &Expectations,
    judge: &mut Judge,
) {
    let Some(limit_ms) = expect.write_gap_max_ms else { return };
    let gap_ms = fault.write_gap_ms;
    if gap_ms > limit_ms {
        let title = window.title();
        let text = format!(
            "{title}: no send{whither} was acknowledged for {gap_ms} ms, limit {limit_ms} ms"
        );
        judge.violation(text, window.lines());
    }
}

fn judge_recovery(
    fault: &FaultAvailability,
    window: &Window<'_>,
    expect: &Expectations,
    judge: &mut Judge,
) {
    let Some(limit_ms) = expect.recovery_max_ms else { return };
    let title = window.title();
    match fault.recovered_ms {
        Some(took_ms) if took_ms > limit_ms => {
            let text =
                format!("{title}: throughput recovered after {took_ms} ms, limit {limit_ms} ms");
            judge.violation(text, window.lines());
        }
        Some(_) => (),
        None if fault.watched_ms > limit_ms => {
            let watched_ms = fault.watched_ms;
            let text = format!(
                "{title}: throughput had not recovered after {watched_ms} ms, limit {limit_ms} ms"
            );
            judge.violation(text, window.lines());
        }
        None => judge.unknown(format!("{title}: the load ended or the next fault came too soon")),
    }
}

/// When sends ended, ascending.
struct Load {
    ok: Vec<u64>,
    failed: Vec<u64>,
    unknown: Vec<u64>,
    /// When the producers stopped.
    end_ns: u64,
}

impl Load {
    fn of(view: &View<'_>, counts: impl Fn(&Send<'_>) -> bool) -> Self {
        let mut load = Self { ok: vec![], failed: vec![], unknown: vec![], end_ns: 0 };
        for send in view.sends.iter().filter(|send| counts(send)) {
            let end = send.operation.end.unwrap_or(send.operation.invoke);
            load.end_ns = load.end_ns.max(end.time_ns);
            match send.operation.outcome() {
                Outcome::Ok => load.ok.push(end.time_ns),
                Outcome::Fail => load.failed.push(end.time_ns),
                Outcome::Unknown => load.unknown.push(end.time_ns),
            }
        }
        for times in [&mut load.ok, &mut load.failed, &mut load.unknown] {
            times.sort_unstable();
        }
        // Between the two, clients that are processes of their own end.
        if let Some(stop) = view.mark("stop").or_else(|| view.mark("drain")) {
            load.end_ns = stop.time_ns;
        }
        load
    }

    fn baseline(&self, until_ns: u64) -> Baseline {
        let ok = &self.ok[..self.ok.partition_point(|end| *end < until_ns)];
        let (Some(first), Some(last)) = (ok.first(), ok.last()) else { return Baseline::default() };
        let mut gaps: Vec<u64> = ok.windows(2).map(|pair| ms(pair[1] - pair[0])).collect();
        gaps.sort_unstable();
        let rank = (gaps.len() as f64 * 0.999).ceil() as usize;
        Baseline {
            sends_ok: ok.len() as u64,
            // The first one only begins the time that is measured.
            sends_per_s: per_second(ok.len() as u64 - 1, last - first),
            gap_p999_ms: gaps.get(rank.saturating_sub(1)).copied().unwrap_or(0),
            gap_max_ms: gaps.last().copied().unwrap_or(0),
        }
    }

    fn around(
        &self,
        window: &Window<'_>,
        all: &[Window<'_>],
        baseline: &Baseline,
    ) -> FaultAvailability {
        let begin_ns = window.begin.time_ns;
        let end_ns = window.end.map_or(self.end_ns, |end| end.time_ns).max(begin_ns);
        let later = all.iter().map(|other| other.begin.time_ns).filter(|other| *other > end_ns);
        let until_ns = later.min().unwrap_or(u64::MAX).min(self.end_ns).max(begin_ns);
        let (gap, gap_is_over) = self.longest_gap(begin_ns, until_ns);
        let write_gap_ms = ms(gap.1 - gap.0);
        let is_outage = write_gap_ms > outage_ms(baseline);
        let resumed_ns = if is_outage { gap.1.max(begin_ns) } else { begin_ns };
        let recovered_ns = self.recovered_ns(resumed_ns, until_ns, baseline);
        let sends_ok = within(&self.ok, begin_ns, end_ns);
        FaultAvailability {
            name: window.name.to_owned(),
            targets: window.targets.to_vec(),
            begin_ns,
            end_ns,
            write_gap_ms,
            resumed_ms: (!is_outage || gap_is_over).then(|| ms(resumed_ns - begin_ns)),
            recovered_ms: recovered_ns.map(|at| ms(at - begin_ns)),
            watched_ms: ms(until_ns - begin_ns),
            sends_ok,
            sends_per_s: per_second(sends_ok, end_ns - begin_ns),
            sends_failed: within(&self.failed, begin_ns, end_ns),
            sends_unknown: within(&self.unknown, begin_ns, end_ns),
        }
    }

    /// Begin and end of the longest time without an acknowledged send, and whether one ended it.
    fn longest_gap(&self, begin_ns: u64, until_ns: u64) -> ((u64, u64), bool) {
        let at = self.ok.partition_point(|end| *end <= begin_ns);
        let mut last = self.ok[..at].last().copied().unwrap_or(begin_ns);
        let mut longest = ((last, last), true);
        let mut consider = |end: u64, is_over: bool| {
            if end - last > longest.0.1 - longest.0.0 {
                longest = ((last, end), is_over);
            }
            last = end;
        };
        let inside = self.ok[at..].iter().take_while(|end| **end <= until_ns);
        inside.for_each(|end| consider(*end, true));
        consider(until_ns, false);
        longest
    }

    /// Begin of the first second with enough acknowledged sends that lies wholly within the time.
    fn recovered_ns(&self, from_ns: u64, until_ns: u64, baseline: &Baseline) -> Option<u64> {
        let needed = (baseline.sends_per_s * RECOVERED_SHARE).ceil() as usize;
        let first = self.ok.partition_point(|end| *end < from_ns);
        let begins = std::iter::once(from_ns).chain(self.ok[first..].iter().copied());
        let fits = |begin: &u64| begin.saturating_add(RECOVERED_OVER_NS) <= until_ns;
        let mut ahead = first;
        begins.take_while(fits).enumerate().find_map(|(number, begin)| {
            while self
                .ok
                .get(ahead)
                .is_some_and(|end| *end < begin.saturating_add(RECOVERED_OVER_NS))
            {
                ahead += 1;
            }
            // The n-th begin after `from_ns` is that of the n-th send from `first` on.
            let before = first + number.saturating_sub(1);
            (ahead - before >= needed).then_some(begin)
        })
    }

    fn outages(&self, baseline: &Baseline, faults: &[FaultAvailability]) -> Vec<Outage> {
        let limit_ms = outage_ms(baseline);
        let until_ns = self.ok.last().map(|last| self.end_ns.max(*last));
        let ends: Vec<u64> = self.ok.iter().copied().chain(until_ns).collect();
        let gaps = ends.windows(2).filter(|pair| ms(pair[1] - pair[0]) > limit_ms);
        let outage = |pair: &[u64]| {
            let (begin_ns, end_ns) = (pair[0], pair[1]);
            let meets =
                |fault: &FaultAvailability| fault.begin_ns < end_ns && fault.end_ns > begin_ns;
            Outage { begin_ns, end_ns, in_fault: faults.iter().any(meets) }
        };
        gaps.map(outage).collect()
    }
}

fn outage_ms(baseline: &Baseline) -> u64 {
    baseline.gap_max_ms.max(OUTAGE_MS_MIN)
}

fn within(sorted: &[u64], begin_ns: u64, end_ns: u64) -> u64 {
    let until = sorted.partition_point(|end| *end <= end_ns);
    (until - sorted.partition_point(|end| *end < begin_ns)) as u64
}

fn per_second(count: u64, duration_ns: u64) -> f64 {
    if duration_ns == 0 { 0.0 } else { count as f64 * 1e9 / duration_ns as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::fixture::History;
    use super::*;
    use crate::history::Action;

    /// A send every 10 ms for 2 s; n1 is killed, and after the pause it goes on for 4 s.
    fn run(pause_ms: u64) -> History {
        let mut history = History::new();
        let mut number = 0;
        let mut send_for = |history: &mut History, from_ms: u64, until_ms: u64| {
            for at in (from_ms..until_ms).step_by(10) {
                number += 1;
                history.at(at).sent(&format!("v{number}"));
            }
        };
        send_for(&mut history, 0, 2000);
        history.at(2000).fault_begins("kill", "n1");
        history.at(2001).send_begins(7, "x").send_fails(7, "x").send_begins(8, "y");
        history.send_unknown(8, "y");
        send_for(&mut history, 2000 + pause_ms, 6000);
        history.at(6000).fault_ends("kill", "n1", true).mark("drain");
        history
    }

    fn judged(history: &History, expect: &Expectations) -> Finding {
        check(&View::new(&history.events), expect)
    }

    #[test]
    fn a_good_history_passes() {
        let finding = judged(&History::good(), &Expectations::default());
        assert_eq!(finding.verdict, Verdict::Pass, "{finding:?}");
    }

    #[test]
    fn a_fault_is_measured_against_what_was_before() {
        let history = run(1500);
        let measured = measure(&View::new(&history.events));
        let Availability { baseline, faults, outages } = &measured;
        assert_eq!((baseline.sends_ok, baseline.gap_max_ms, baseline.gap_p999_ms), (200, 10, 10));
        assert!((baseline.sends_per_s - 100.0).abs() < 0.1);
        let fault = &faults[0];
        assert_eq!((fault.write_gap_ms, fault.resumed_ms), (1510, Some(1501)));
        assert_eq!((fault.recovered_ms, fault.watched_ms), (Some(1501), 4001));
        assert_eq!((fault.sends_ok, fault.sends_failed, fault.sends_unknown), (250, 1, 1));
        assert_eq!(outages.len(), 1);
        assert!(outages[0].in_fault);
        let text = serde_json::to_string(&measured).unwrap();
        assert_eq!(serde_json::from_str::<Availability>(&text).unwrap(), measured);
    }

    #[test]
    fn only_limits_can_be_broken() {
        let history = run(1500);
        assert_eq!(judged(&history, &Expectations::default()).verdict, Verdict::Pass);
        let mut expect = Expectations { write_gap_max_ms: Some(1510), ..Expectations::default() };
        expect.recovery_max_ms = Some(1501);
        assert_eq!(judged(&history, &expect).verdict, Verdict::Pass);
        expect.write_gap_max_ms = Some(1509);
        expect.recovery_max_ms = Some(1500);
        let finding = judged(&history, &expect);
        let texts: Vec<_> = finding.violations.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "kill of n1: no send was acknowledged for 1510 ms, limit 1509 ms",
                "kill of n1: throughput recovered after 1501 ms, limit 1500 ms",
            ]
        );
    }

    #[test]
    fn a_topic_that_stands_still_is_not_hidden_by_another() {
        let mut history = run(50);
        let expect = Expectations { write_gap_max_ms: Some(1000), ..Expectations::default() };
        assert_eq!(judged(&history, &expect).verdict, Verdict::Pass);
        // Somebody else's sends stop two seconds before the fault ends.
        for event in &mut history.events {
            if let Action::Send { topic, value, .. } = &mut event.action
                && value.ends_with('7')
                && event.time_ns < 4_000_000_000
            {
                *topic = "other".into();
            }
        }
        let finding = judged(&history, &expect);
        let texts: Vec<_> = finding.violations.iter().map(|one| one.text.as_str()).collect();
        let text = "kill of n1: no send to topic other was acknowledged for 2090 ms, limit 1000 ms";
        assert_eq!(texts, [text]);
        assert_eq!(finding.figures["write_gap_max_ms_other"], 2090.0);
        assert_eq!(finding.figures["write_gap_max_ms_t"], 60.0);
    }

    #[test]
    fn the_load_ends_when_the_producers_are_told_to_stop() {
        let mut history = run(50);
        history.events.retain(|event| event.time_ns < 6_000_000_000);
        history.at(6000).mark("stop").at(9000).mark("drain");
        let measured = measure(&View::new(&history.events));
        assert_eq!(measured.faults[0].write_gap_ms, 60);
    }

    #[test]
    fn without_an_outage_nothing_had_to_resume() {
        let history = run(50);
        let measured = measure(&View::new(&history.events));
        let fault = &measured.faults[0];
        assert_eq!(
            (fault.write_gap_ms, fault.resumed_ms, fault.recovered_ms),
            (60, Some(0), Some(0))
        );
        assert_eq!(measured.outages, []);
    }

    #[test]
    fn writes_that_never_resume_are_told_so() {
        let history = run(10_000);
        let measured = measure(&View::new(&history.events));
        let fault = &measured.faults[0];
        assert_eq!((fault.resumed_ms, fault.recovered_ms), (None, None));
        assert_eq!(fault.write_gap_ms, 4010);
        let expect = Expectations { recovery_max_ms: Some(3000), ..Expectations::default() };
        assert_eq!(judged(&history, &expect).verdict, Verdict::Fail);
        // It was not watched for long enough to tell.
        let expect = Expectations { recovery_max_ms: Some(9000), ..Expectations::default() };
        assert_eq!(judged(&history, &expect).verdict, Verdict::Unknown);
    }

    #[test]
    fn half_the_throughput_is_no_recovery() {
        let mut history = History::new();
        for at in (0..2000).step_by(10) {
            history.at(at).sent("a");
        }
        history.at(2000).fault_begins("slow", "n1");
        for at in (2010..6000).step_by(20) {
            history.at(at).sent("a");
        }
        history.at(6000).fault_ends("slow", "n1", true).at(7000).mark("drain");
        let fault = &measure(&View::new(&history.events)).faults[0];
        assert_eq!((fault.resumed_ms, fault.recovered_ms), (None, None));
        assert!((fault.sends_per_s - 50.0).abs() < 1.0);
    }

    #[test]
    fn an_outage_without_a_fault_is_told_apart() {
        let mut history = run(50);
        history.events.retain(|event| !matches!(event.action, crate::history::Action::Mark { .. }));
        history.at(6500).sent("first after").at(9000).sent("late");
        let outages = measure(&View::new(&history.events)).outages;
        let in_fault: Vec<bool> = outages.iter().map(|outage| outage.in_fault).collect();
        assert_eq!(in_fault, [true, false]);
        assert_eq!((outages[1].begin_ns, outages[1].end_ns), (6_501_000_000, 9_001_000_000));
    }

    #[test]
    fn without_faults_or_a_baseline_it_is_unknown() {
        let mut history = History::new();
        history.sent("a");
        assert_eq!(judged(&history, &Expectations::default()).verdict, Verdict::Unknown);
        let mut history = History::new();
        history.fault_begins("kill", "n1").sent("a").fault_ends("kill", "n1", true);
        assert_eq!(judged(&history, &Expectations::default()).verdict, Verdict::Unknown);
    }
}
