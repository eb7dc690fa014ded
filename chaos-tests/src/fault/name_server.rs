//! Faults of name servers.

use serde_json::json;

use super::{Bite, Fault, Field, Step};
use crate::mesh::object::{Chaos, Pods};
use crate::mesh::{Counterpart, Reason, Setting};

/// All name servers are killed; at the end they start again, knowing nothing.
#[derive(Default)]
pub struct KillNameServers {
    killed: usize,
}

impl Fault for KillNameServers {
    fn name(&self) -> &'static str {
        "kill-name-servers"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({})
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            let count = field.cluster.name_server_count();
            Ok((1..=count).map(|number| format!("namesrv-{number}")).collect())
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            for number in 0..field.cluster.name_server_count() {
                field.cluster.kill_name_server(number)?;
                self.killed += 1;
            }
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            for number in 0..field.cluster.name_server_count() {
                field.cluster.restart_name_server(number)?;
            }
            Ok(Bite::Bit(format!("{} name servers ended by SIGKILL", self.killed)))
        })
    }

    fn in_chaos_mesh(&self, setting: &Setting) -> Result<Counterpart, Reason> {
        Ok(Counterpart::of(setting, [Chaos::absent(Pods::NameServers)])
            .but("Name servers are asked to end before they are away."))
    }
}
