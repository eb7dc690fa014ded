//! The one case in which a node that forgot everything could decide an election.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;

use super::disk::empty;
use super::process::{Target, caught_up, names};
use super::{Bite, Fault, Field, Step};
use crate::mesh::{Counterpart, Reason, Setting};
use crate::must;

/// For writes that only two of three have.
const AHEAD: Duration = Duration::from_secs(2);
/// For the emptied broker to start, and to vote if it were so wrong.
const SETTLE: Duration = Duration::from_secs(1);

/// Of three brokers one is away and falls behind, one loses its disk, and then the leader is killed,
/// who alone has everything: the other two are a majority, and neither may lead until it is back.
#[derive(Default)]
pub struct Amnesia {
    leader: usize,
    behind: usize,
    emptied: usize,
    emptied_name: String,
    term: u64,
    behind_by: u64,
}

impl Fault for Amnesia {
    fn name(&self) -> &'static str {
        "amnesia"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "ahead_ms": AHEAD.as_millis(), "emptied": [self.emptied_name] })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            let size = field.cluster.size();
            ensure!(size == 3, "among {size} brokers others would have everything too");
            self.leader = field.cluster.leader().await?;
            self.behind = Target::Follower.choose(field).await?[0];
            self.emptied = 3 - self.leader - self.behind;
            self.emptied_name = field.cluster.name(self.emptied).to_owned();
            Ok(names(field, &[self.behind, self.emptied, self.leader]))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            let index = self.committed(field).await?;
            field.cluster.kill(self.behind)?;
            tokio::time::sleep(AHEAD).await;
            self.behind_by = self.committed(field).await?.saturating_sub(index);

            field.cluster.kill(self.emptied)?;
            empty(field.cluster.data_directory(self.emptied))?;
            field.cluster.restart(self.emptied)?;
            tokio::time::sleep(SETTLE).await;

            field.cluster.kill(self.leader)?;
            field.cluster.restart(self.behind)
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            let statuses = field.cluster.status().await.unwrap_or_default();
            let usurper = statuses.iter().find(|it| it.role == "leader" && it.term > self.term);
            let (usurper, leader) = (usurper.map_or(0, |it| it.node_id), self.leader + 1);
            must!(usurper == 0, "broker-{usurper} leads without what only broker-{leader} has");
            field.cluster.restart(self.leader)?;
            caught_up(field, &[self.leader, self.behind, self.emptied]).await?;
            let name = |broker| field.cluster.name(broker);
            let (leader, behind) = (name(self.leader), name(self.behind));
            let emptied = &self.emptied_name;
            Ok(match self.behind_by {
                0 => Bite::Missed(format!("{behind} was not behind")),
                entries => Bite::Bit(format!(
                    "{behind} was {entries} entries behind and {emptied} was empty: nobody led \
                     until {leader} was back"
                )),
            })
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh deletes no volumes: delete a claim and its pod by hand")
    }
}

impl Amnesia {
    /// What the leader has committed; remembers its term.
    async fn committed(&mut self, field: &Field) -> anyhow::Result<u64> {
        let statuses = field.cluster.status().await?;
        let leader = statuses.iter().find(|status| status.node_id == self.leader as u64 + 1);
        let leader = leader.context("the leader does not answer")?;
        self.term = leader.term;
        Ok(leader.commit_index)
    }
}
