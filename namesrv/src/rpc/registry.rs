//! `raftmq.v1.NameServer`: leaders register, operators list.

use std::time::Duration;

use raftmq_proto::raftmq::ListRoutesRequest;
use raftmq_proto::raftmq::ListRoutesResponse;
use raftmq_proto::raftmq::RegisterRequest;
use raftmq_proto::raftmq::RegisterResponse;
use raftmq_proto::raftmq::name_server_server::NameServer;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tracing::debug;
use tracing::info;

use crate::metrics;
use crate::route_table::Accepted;
use crate::route_table::RouteTable;

use super::SharedTable;

pub(crate) struct Registry {
    pub(crate) table: SharedTable,
}

#[tonic::async_trait]
impl NameServer for Registry {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let RegisterRequest { route, ttl_ms } = request.into_inner();
        let route = route.ok_or_else(|| Status::invalid_argument("route is missing"))?;
        let (group, term, leader_id) = (route.group.clone(), route.term, route.leader_id);
        let ttl = Duration::from_millis(ttl_ms);
        let result = self.table.write(|table, now| table.register(route, ttl, now));
        metrics::registration(&result);
        let refusal = match result {
            Ok(Accepted::Renewed) => String::new(),
            Ok(Accepted::Changed) => {
                info!(group, term, leader_id, "route changed");
                String::new()
            }
            Err(refusal) => {
                // At debug: the broker logs it, and a deposed leader repeats it every second.
                debug!(group, term, leader_id, %refusal, "registration refused");
                refusal.to_string()
            }
        };
        Ok(Response::new(RegisterResponse { refusal }))
    }

    async fn list_routes(
        &self,
        _request: Request<ListRoutesRequest>,
    ) -> Result<Response<ListRoutesResponse>, Status> {
        let routes = self.table.read(RouteTable::list);
        Ok(Response::new(ListRoutesResponse { routes }))
    }
}
