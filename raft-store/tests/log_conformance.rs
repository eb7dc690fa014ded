//! openraft's own conformance suite for storage, on real files.

#![allow(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::sync::Arc;

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
struct Counter(u64);

impl Apply for Counter {
    fn apply(
        &mut self,
        _: LogPosition,
        _: &Bytes,
        _: &StateStore,
        mut batch: Batch,
        write: &mut dyn FnMut(Batch),
    ) -> Reply {
        self.0 += 1;
        batch.put(&[1], &self.0.to_be_bytes());
        write(batch);
        Reply(None)
    }

    fn load(&mut self, _: &StateStore) {}
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
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
        let shared = Arc::new(Shared::open(&tables).unwrap());
        let snapshots = SnapshotDirectory::open(directory.path().join("snapshots")).unwrap();
        let machine = StateMachine::new(shared, Box::new(Counter(0)), tables, snapshots).unwrap();
        Ok((directory, LogStore::new(log, incoming), machine))
    }
}

#[test]
fn openraft_storage_suite() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        Suite::test_all(Builder).await.unwrap();
    });
}
