//! Name servers that know what was true before they stood still.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

use super::{Bite, Fault, Field, Step};
use crate::mesh::{Counterpart, Reason, Setting};
use crate::until;

/// All name servers stand still while another broker comes to lead, and wake up with the old route.
/// The highest term must win, and clients that asked too early must find their way.
#[derive(Default)]
pub struct StaleNameServers {
    killed: usize,
    term: u64,
}

/// For the new leader's heartbeats to arrive at a server that wakes up: they come every 2 s.
const AGREE_LIMIT: Duration = Duration::from_secs(10);

/// The newest term of which each name server has a route.
async fn terms(field: &Field) -> anyhow::Result<Vec<u64>> {
    let routes = field.cluster.routes().await?;
    let newest =
        |of: &Vec<raftmq_proto::raftmq::GroupRoute>| of.iter().map(|route| route.term).max();
    Ok(routes.iter().map(|of| newest(of).unwrap_or(0)).collect())
}

impl Fault for StaleNameServers {
    fn name(&self) -> &'static str {
        "stale-name-servers"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({})
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            self.killed = field.cluster.leader().await?;
            let count = field.cluster.name_server_count();
            let servers = (1..=count).map(|number| format!("namesrv-{number}"));
            Ok(servers.chain([field.cluster.name(self.killed).to_owned()]).collect())
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            self.term = terms(field).await?.into_iter().max().context("no name servers")?;
            for number in 0..field.cluster.name_server_count() {
                field.cluster.signal_name_server(number, "STOP")?;
            }
            field.cluster.kill(self.killed)?;
            field.cluster.leader().await?;
            field.cluster.restart(self.killed)
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            for number in 0..field.cluster.name_server_count() {
                field.cluster.signal_name_server(number, "CONT")?;
            }
            // Whatever they say first: routes go out of date while they stand still, too.
            let first = terms(field).await?;
            field.cluster.leader().await?;
            let term = field.cluster.term().await?;
            until("name servers to know the new leader", AGREE_LIMIT, async || {
                let terms = terms(field).await?;
                ensure!(terms.iter().all(|known| *known >= term), "{terms:?}, not {term}");
                Ok(())
            })
            .await?;
            let old = self.term;
            let evidence = format!(
                "they stood still in term {old}, said {first:?} when they woke up, then {term}"
            );
            Ok(match term > old {
                true => Bite::Bit(evidence),
                false => Bite::Missed(evidence),
            })
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh ends processes; it can not stop one and let it go on")
    }
}
