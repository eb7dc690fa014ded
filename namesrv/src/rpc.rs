//! The services of the client port: decode, ask the route table or a broker, encode.

mod messaging;
mod registry;
mod relay;

use std::sync::Arc;
use std::time::Instant;

use parking_lot::RwLock;

use crate::metrics;
use crate::route_table::RouteTable;

pub(crate) use messaging::Messaging;
pub(crate) use registry::Registry;
pub(crate) use relay::Relay;

/// The route table as the services share it.
#[derive(Clone, Default)]
pub(crate) struct SharedTable(Arc<RwLock<RouteTable>>);

impl SharedTable {
    pub(crate) fn read<T>(&self, question: impl FnOnce(&RouteTable, Instant) -> T) -> T {
        question(&self.0.read(), Instant::now())
    }

    /// Also keeps the size metrics true.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&mut RouteTable, Instant) -> T) -> T {
        let mut table = self.0.write();
        let result = change(&mut table, Instant::now());
        metrics::table_size(table.size());
        result
    }
}
