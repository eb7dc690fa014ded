//! Metrics and probes over HTTP.
//!
//! `/livez` fails when the process should be ended, `/readyz` when clients should not be sent here,
//! `/startupz` until the node has taken part in its group once.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use raftmq_raft_store::Leadership;

use crate::node::Node;

#[derive(Clone)]
struct Sources {
    node: Node,
    metrics: PrometheusHandle,
}

/// The pages of one node.
pub(crate) fn router(node: Node, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/metrics", get(render))
        .route("/livez", get(alive))
        .route("/readyz", get(ready))
        .route("/startupz", get(started))
        .with_state(Sources { node, metrics })
}

async fn render(State(sources): State<Sources>) -> String {
    crate::metrics::collect(&sources.node);
    sources.metrics.render()
}

async fn alive(State(sources): State<Sources>) -> (StatusCode, String) {
    let trouble = sources.node.group.status();
    if trouble.role == "stopped" {
        return (StatusCode::SERVICE_UNAVAILABLE, trouble.trouble);
    }
    (StatusCode::OK, "alive".to_owned())
}

async fn ready(State(sources): State<Sources>) -> (StatusCode, String) {
    match &*sources.node.leadership.borrow() {
        Leadership::None => (StatusCode::SERVICE_UNAVAILABLE, "the group has no leader".to_owned()),
        Leadership::Local { term } => (StatusCode::OK, format!("leading in term {term}")),
        Leadership::Remote { node_id, term, .. } => {
            (StatusCode::OK, format!("following node {node_id} in term {term}"))
        }
    }
}

async fn started(State(sources): State<Sources>) -> (StatusCode, String) {
    let status = sources.node.group.status();
    if status.term > 0 && status.membership != "none" {
        (StatusCode::OK, format!("a {} of the group", status.membership))
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not a member of the group yet".to_owned())
    }
}
