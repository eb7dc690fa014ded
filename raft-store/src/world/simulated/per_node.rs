//! One value for each node, where several share a process.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Process;

/// One value for each incarnation of a node.
#[derive(Debug)]
pub struct PerNode<T> {
    /// What the product would have; here every node begins with the default.
    _only: T,
    values: Mutex<BTreeMap<(u64, u64), Arc<T>>>,
}

impl<T: Default> PerNode<T> {
    /// Begins with `value`, which is the default.
    pub const fn new(value: T) -> Self {
        Self { _only: value, values: Mutex::new(BTreeMap::new()) }
    }

    /// The value of this node.
    pub fn with<R>(&self, use_it: impl FnOnce(&T) -> R) -> R {
        let process = Process::current();
        let key = (process.node_id(), process.incarnation());
        let value = self.values.lock().entry(key).or_default().clone();
        use_it(&value)
    }
}
