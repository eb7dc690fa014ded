//! openraft's own conformance suite for storage, on real files.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use openraft::StorageError;
use openraft::testing::log::StoreBuilder;
use openraft::testing::log::Suite;
use raftmq_raft_store::FlushMode;
use raftmq_raft_store::Reply;
use raftmq_raft_store::TypeConfig;
use raftmq_raft_store::apply::Apply;
use raftmq_raft_store::commit_log::CommitLog;
use raftmq_raft_store::commit_log::LogConfig;
use raftmq_raft_store::commit_log::LogPosition;
use raftmq_raft_store::log_store::LogStore;
use raftmq_raft_store::snapshot::Incoming;
use raftmq_raft_store::snapshot::SnapshotDirectory;
use raftmq_raft_store::state::Batch;
use raftmq_raft_store::state::StateStore;
use raftmq_raft_store::state_machine::Shared;
use raftmq_raft_store::state_machine::StateMachine;

/// Counts: the suite only looks at positions and memberships.
struct Counter(AtomicU64);

impl Apply for Counter {
    fn apply(&mut self, _: LogPosition, _: &Bytes, _: &StateStore, batch: &mut Batch) -> Reply {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        batch.put(&[1], &count.to_be_bytes());
        Reply(None)
    }

    fn load(&mut self, _: &StateStore) {}
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine<Counter>, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, StateMachine<Counter>), StorageError<TypeConfig>>
    {
        let directory = tempfile::tempdir().unwrap();
        let log = CommitLog::open(LogConfig {
            directory: directory.path().join("log"),
            node_id: 1,
            group_hash: 7,
            segment_bytes: 1 << 20,
            flush: FlushMode::Sync,
            on_fatal: Arc::new(|error| panic!("{error}")),
        })
        .unwrap();
        let incoming = Incoming::new(directory.path().join("incoming"));
        let tables = directory.path().join("state");
        let shared = Arc::new(Shared::open(&tables, Counter(AtomicU64::new(0))).unwrap());
        let snapshots = SnapshotDirectory::open(directory.path().join("snapshots")).unwrap();
        let machine = StateMachine::new(shared, tables, snapshots).unwrap();
        Ok((directory, LogStore::new(log, incoming), machine))
    }
}

#[test]
fn openraft_storage_suite() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        Suite::test_all(Builder).await.unwrap();
    });
}
