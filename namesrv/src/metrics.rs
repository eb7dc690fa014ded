//! What a name server tells about itself.

use raftmq_proto::v2::Code;

use crate::route_table::Accepted;
use crate::route_table::Refusal;

const GROUPS: &str = "raftmq_namesrv_groups";
const TOPICS: &str = "raftmq_namesrv_topics";
const QUERIES: &str = "raftmq_namesrv_queries_total";
const REGISTRATIONS: &str = "raftmq_namesrv_registrations_total";

pub(crate) fn describe() {
    metrics::describe_gauge!(GROUPS, "Broker groups whose leader has registered.");
    metrics::describe_gauge!(
        TOPICS,
        "Topics in all registered groups; one in two groups counts twice."
    );
    metrics::describe_counter!(QUERIES, "Questions of clients, by call and status code.");
    metrics::describe_counter!(REGISTRATIONS, "Heartbeats of leaders, by result.");
}

pub(crate) fn table_size((groups, topics): (usize, usize)) {
    metrics::gauge!(GROUPS).set(groups as f64);
    metrics::gauge!(TOPICS).set(topics as f64);
}

pub(crate) fn query(rpc: &'static str, code: Code) {
    metrics::counter!(QUERIES, "rpc" => rpc, "code" => code.as_str_name()).increment(1);
}

pub(crate) fn registration(result: &Result<Accepted, Refusal>) {
    let result = match result {
        Ok(Accepted::Changed) => "changed",
        Ok(Accepted::Renewed) => "renewed",
        Err(Refusal::OlderTerm { .. } | Refusal::OtherLeader { .. }) => "refused_deposed",
        Err(Refusal::OlderRevision { .. }) => "refused_overtaken",
        Err(Refusal::OtherCluster { .. } | Refusal::TooMany(_) | Refusal::Malformed(_)) => {
            "refused_invalid"
        }
    };
    metrics::counter!(REGISTRATIONS, "result" => result).increment(1);
}
