//! Metrics and probes over plain HTTP.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

/// Content type of the Prometheus text format.
const PROMETHEUS_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/metrics`, `/livez`, `/readyz` and `/startupz` of a name server.
///
/// All probes succeed as soon as the port answers. Readiness does not wait for a broker group:
/// brokers find name servers through the same service that readiness opens, so a name server that
/// waited for them would wait for ever; and without a group it still gives the right answer.
pub fn router(metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/metrics", get(async move || ([(CONTENT_TYPE, PROMETHEUS_TEXT)], metrics.render())))
        .route("/livez", get("ok\n"))
        .route("/readyz", get("ok\n"))
        .route("/startupz", get("ok\n"))
}
