//! The one metrics recorder of the process. All nodes of `raftmq dev` share it.

use std::time::Duration;

use metrics_exporter_prometheus::Matcher;
use metrics_exporter_prometheus::PrometheusBuilder;
use metrics_exporter_prometheus::PrometheusHandle;

use crate::exit::Failure;

/// How often histograms are folded together when nobody scrapes them.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// 50 us (a call answered from memory) to 10 s, three steps a decade.
const SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];
/// As RocketMQ's `rocketmq_rpc_latency`, so that dashboards keep working.
const MILLISECONDS: [f64; 9] = [1.0, 3.0, 5.0, 7.0, 10.0, 100.0, 1_000.0, 2_000.0, 3_000.0];
/// As RocketMQ's `rocketmq_message_size`.
const BYTES: [f64; 6] = [1_024.0, 4_096.0, 524_288.0, 1_048_576.0, 2_097_152.0, 4_194_304.0];
/// For counts of things taken together, such as messages in a batch.
const COUNTS: [f64; 13] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1_024.0, 2_048.0, 4_096.0];

/// Installs the recorder. Bounds of histograms go by the unit at the end of the name.
pub fn install() -> Result<PrometheusHandle, Failure> {
    let suffix = |unit: &str| Matcher::Suffix(unit.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_milliseconds"), &MILLISECONDS))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_latency"), &MILLISECONDS))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_bytes"), &BYTES))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_size"), &BYTES))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_per_entry"), &COUNTS))
        .and_then(|builder| builder.set_buckets_for_metric(suffix("_per_flush"), &COUNTS))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| Failure::failed(format!("could not set up metrics: {error}")))?;
    let upkeep = handle.clone();
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            upkeep.run_upkeep();
        }
    });
    Ok(handle)
}
