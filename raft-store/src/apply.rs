//! The contract between the replicated log and what the broker makes of it.

use bytes::Bytes;

use crate::commit_log::LogPosition;
use crate::state::Batch;
use crate::state::StateStore;
use crate::types::Reply;

/// The broker's decision logic, called for each committed entry in log order on every replica.
///
/// # Determinism
/// `apply` depends on its arguments and on what earlier calls left, and on nothing else: no clock, no
/// randomness, no task, no hash-map order. The same entries give the same writes, byte for byte, on
/// every replica; a running hash of all writes is kept and compared.
pub trait Apply: Send + Sync + 'static {
    /// Applies one entry: puts every change into `batch`, hands it to `write` exactly once, and only
    /// then lets readers see the outcome.
    ///
    /// Returns what the proposer is told. There is no error: a command that can not be carried out
    /// is a reply. What can not happen panics, and a panic ends the process.
    fn apply(
        &mut self,
        position: LogPosition,
        body: &Bytes,
        store: &StateStore,
        batch: Batch,
        write: &mut dyn FnMut(Batch),
    ) -> Reply;

    /// Forgets everything in memory and reads it from the tables: after opening, and after a snapshot
    /// was installed.
    fn load(&mut self, store: &StateStore);

    /// Several entries were applied. Called once for all that came together.
    fn applied(&mut self) {}
}
