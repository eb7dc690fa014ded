//! Cost of the commit log by itself: the frame codec, and durable appends.
//!
//! The appends wait for the disk, so their figure says as much about the disk as about the code;
//! compare it with `raftmq bench disk` of the same run.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench ends where it fails")]

use std::sync::Arc;

use bytes::Bytes;
use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use raftmq_raft_store::FlushMode;
use raftmq_raft_store::commit_log::CommitLog;
use raftmq_raft_store::commit_log::LogConfig;
use raftmq_raft_store::commit_log::LogPosition;
use raftmq_raft_store::commit_log::format;
use raftmq_raft_store::commit_log::format::FrameKind;

fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for bytes in [1 << 10, 64 << 10, 1 << 20] {
        let body = vec![7; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_with_input(BenchmarkId::new("encode", bytes), &body, |bencher, body| {
            bencher.iter(|| format::encode_frame(1, 2, FrameKind::Normal, body));
        });
        let frame = format::encode_frame(1, 2, FrameKind::Normal, &body);
        group.bench_with_input(BenchmarkId::new("decode", bytes), &frame, |bencher, frame| {
            bencher.iter(|| format::decode_frame(&mut frame.clone()).unwrap());
        });
    }
    group.finish();
}

fn append(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    let mut group = criterion.benchmark_group("append");
    group.sample_size(20);
    for (flush, bytes) in [
        (FlushMode::Sync, 4 << 10),
        (FlushMode::Sync, 64 << 10),
        (FlushMode::Sync, 1 << 20),
        (FlushMode::Async, 64 << 10),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let log = CommitLog::open(LogConfig {
            directory: directory.path().to_owned(),
            node_id: 1,
            group_hash: 1,
            segment_bytes: 64 << 20,
            flush,
            on_fatal: Arc::new(|error| panic!("{error}")),
        })
        .unwrap();
        let body = vec![7; bytes];
        let mut index = 0;
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(BenchmarkId::new(flush.as_str(), bytes), |bencher| {
            bencher.iter(|| {
                runtime.block_on(durable_append(&log, index, &body));
                index += 1;
            });
        });
    }
    group.finish();
}

/// Appends one entry and waits until it counts as durable.
async fn durable_append(log: &CommitLog, index: u64, body: &[u8]) {
    let frame: Bytes = format::encode_frame(1, index, FrameKind::Normal, body);
    let (sender, flushed) = tokio::sync::oneshot::channel();
    let frames = vec![(LogPosition { term: 1, index }, frame)];
    log.append(frames, move |result| sender.send(result).unwrap()).await.unwrap();
    flushed.await.unwrap().unwrap();
}

criterion_group!(benches, codec, append);
criterion_main!(benches);
