//! How a finding comes about.

use super::{Checker, Finding, VIOLATIONS_MAX, Verdict, Violation};

/// Lines that one violation names; more would tell nothing new.
const EVENTS_MAX: usize = 20;

/// Reasons for an unknown verdict that a note lists.
const REASONS_MAX: usize = 5;

/// Gathers what one checker sees.
pub(super) struct Judge {
    finding: Finding,
    unknown: Vec<String>,
}

impl Judge {
    pub(super) fn new(checker: Checker) -> Self {
        let finding = Finding {
            checker: checker.as_str().to_owned(),
            verdict: Verdict::Pass,
            violations: Vec::new(),
            violation_count: 0,
            note: String::new(),
            figures: std::collections::BTreeMap::new(),
        };
        Self { finding, unknown: Vec::new() }
    }

    /// A promise was broken; `events` are the lines that show it.
    pub(super) fn violation(&mut self, text: String, events: impl IntoIterator<Item = u64>) {
        let events = events.into_iter().take(EVENTS_MAX).collect();
        self.finding.violations.push(Violation { text, events });
    }

    /// The history does not hold what would be needed.
    pub(super) fn unknown(&mut self, reason: impl Into<String>) {
        self.unknown.push(reason.into());
    }

    pub(super) fn figure(&mut self, name: &str, value: f64) {
        self.finding.figures.insert(name.to_owned(), value);
    }

    pub(super) fn count(&mut self, name: &str, count: usize) {
        self.figure(name, count as f64);
    }

    /// Ends with a sentence about what was looked at. The earliest violation comes first: what
    /// follows it is often its consequence.
    pub(super) fn finish(mut self, looked_at: String) -> Finding {
        let finding = &mut self.finding;
        finding.violation_count = finding.violations.len() as u64;
        finding.violations.sort_by(|one, other| {
            (one.events.first(), &one.text).cmp(&(other.events.first(), &other.text))
        });
        finding.violations.truncate(VIOLATIONS_MAX);
        finding.verdict = match (finding.violations.is_empty(), self.unknown.is_empty()) {
            (false, _) => Verdict::Fail,
            (true, false) => Verdict::Unknown,
            (true, true) => Verdict::Pass,
        };
        finding.note = looked_at;
        if !self.unknown.is_empty() {
            let more = self.unknown.len().saturating_sub(REASONS_MAX);
            self.unknown.truncate(REASONS_MAX);
            finding.note.push_str("; unknown: ");
            finding.note.push_str(&self.unknown.join(", "));
            if more > 0 {
                finding.note.push_str(&format!(", and {more} more"));
            }
        }
        self.finding
    }
}

/// The value that so many percent of a sorted list do not exceed; of an empty one, 0.
pub(super) fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let place = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(place).copied().unwrap_or(0)
}

/// Milliseconds of nanoseconds, for sentences.
pub(super) fn ms(nanoseconds: u64) -> u64 {
    nanoseconds / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_violation_comes_first_and_the_list_is_bounded() {
        let mut judge = Judge::new(Checker::Order);
        for index in (0..100).rev() {
            judge.violation(format!("at {index}"), index..index + 100);
        }
        judge.unknown("something lacks");
        let finding = judge.finish("100 things".to_owned());
        assert_eq!((finding.verdict, finding.violation_count), (Verdict::Fail, 100));
        assert_eq!(finding.violations.len(), VIOLATIONS_MAX);
        assert_eq!(finding.violations[0].text, "at 0");
        assert_eq!(finding.violations[0].events.len(), EVENTS_MAX);
        assert_eq!(finding.note, "100 things; unknown: something lacks");
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        let values: Vec<u64> = (1..=200).collect();
        assert_eq!([50, 99, 100].map(|percent| percentile(&values, percent)), [100, 198, 200]);
        assert_eq!((percentile(&[7], 50), percentile(&[], 99)), (7, 0));
    }

    #[test]
    fn without_violations_a_reason_makes_it_unknown() {
        let mut judge = Judge::new(Checker::Order);
        for reason in 0..7 {
            judge.unknown(format!("r{reason}"));
        }
        let finding = judge.finish("nothing".to_owned());
        assert_eq!(finding.verdict, Verdict::Unknown);
        assert_eq!(finding.note, "nothing; unknown: r0, r1, r2, r3, r4, and 2 more");
        assert_eq!(Judge::new(Checker::Order).finish(String::new()).verdict, Verdict::Pass);
    }
}
