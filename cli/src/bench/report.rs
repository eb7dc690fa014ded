//! Numbers of a benchmark: one JSON line for programs, a few lines for people.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::load::Measured;
use crate::output;

/// Where latencies lie, in microseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Percentiles {
    mean_us: f64,
    p50_us: u64,
    p90_us: u64,
    p95_us: u64,
    p99_us: u64,
    p999_us: u64,
    p9999_us: u64,
    max_us: u64,
}

/// How much was done, in how much time.
#[derive(Debug, Serialize)]
pub struct Throughput {
    messages: u64,
    requests: u64,
    /// Requests that failed after all their attempts.
    errors: u64,
    errors_by_cause: BTreeMap<&'static str, u64>,
    /// Requests that were due and never made, for lack of a free caller.
    not_started: u64,
    elapsed_s: f64,
    messages_per_s: f64,
    requests_per_s: f64,
    mib_per_s: f64,
    /// Of this process, server not included.
    cpu_s: f64,
}

impl From<&Histogram<u64>> for Percentiles {
    fn from(latencies: &Histogram<u64>) -> Self {
        let at = |quantile| latencies.value_at_quantile(quantile).min(latencies.max());
        Self {
            mean_us: (latencies.mean() * 10.0).round() / 10.0,
            p50_us: at(0.5),
            p90_us: at(0.9),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            p9999_us: at(0.9999),
            max_us: latencies.max(),
        }
    }
}

impl Percentiles {
    /// `p50 1.2 ms, p90 ...`
    pub fn text(&self) -> String {
        let part =
            |name: &str, us: u64| format!("{name} {}", output::duration(Duration::from_micros(us)));
        [
            part("p50", self.p50_us),
            part("p90", self.p90_us),
            part("p99", self.p99_us),
            part("p99.9", self.p999_us),
            part("max", self.max_us),
        ]
        .join(", ")
    }
}

impl Throughput {
    pub fn new(measured: &Measured, body_bytes: u64) -> Self {
        let elapsed_s = measured.elapsed.as_secs_f64().max(1e-6);
        let per_s = |count: u64| (count as f64 / elapsed_s * 10.0).round() / 10.0;
        let mib = body_bytes as f64 / f64::from(1 << 20);
        Self {
            messages: measured.messages,
            requests: measured.requests,
            errors: measured.errors.values().sum(),
            errors_by_cause: measured.errors.clone(),
            not_started: measured.not_started,
            elapsed_s,
            messages_per_s: per_s(measured.messages),
            requests_per_s: per_s(measured.requests),
            mib_per_s: (mib / elapsed_s * 100.0).round() / 100.0,
            cpu_s: measured.cpu.as_secs_f64(),
        }
    }

    pub fn text(&self) -> String {
        let mut text = format!(
            "{:.0} messages/s, {:.0} requests/s, {:.1} MiB/s in {:.1} s\n  \
             {} messages, {} errors, {:.1} s of processor time here\n",
            self.messages_per_s,
            self.requests_per_s,
            self.mib_per_s,
            self.elapsed_s,
            self.messages,
            self.errors,
            self.cpu_s
        );
        for (cause, count) in &self.errors_by_cause {
            text.push_str(&format!("  {count} requests failed: {cause}\n"));
        }
        if self.not_started > 0 {
            text.push_str(&format!(
                "  {} requests were due and not made: the rate is more than was possible\n",
                self.not_started
            ));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::histogram;
    use super::super::load::record;
    use super::*;

    #[test]
    fn percentiles_never_exceed_the_maximum() {
        let mut latencies = histogram();
        for ms in 1..=100 {
            record(&mut latencies, Duration::from_millis(ms));
        }
        let percentiles = Percentiles::from(&latencies);
        assert!(percentiles.p50_us.abs_diff(50_000) < 100);
        assert!(percentiles.p9999_us <= percentiles.max_us);
        assert!(percentiles.text().starts_with("p50 50.0 ms, p90 90"), "{}", percentiles.text());
    }

    #[test]
    fn nothing_recorded_is_zero() {
        let percentiles = Percentiles::from(&histogram());
        assert_eq!((percentiles.p50_us, percentiles.max_us), (0, 0));
    }
}
