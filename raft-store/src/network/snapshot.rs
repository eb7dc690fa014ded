//! Sending a snapshot: what the receiver lacks of the checkpoint's files, and the entry frames it
//! needs to serve the messages the tables point to.

use std::io;

use openraft::alias::SnapshotOf;
use openraft::errors::NetworkError;
use openraft::errors::StreamingError;
use openraft::raft::SnapshotResponse;
use prost::Message;
use raftmq_proto::checksum::Checksummed as _;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::snapshot_chunk::Part;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::RaftClient;
use crate::commit_log::CommitLog;
use crate::snapshot::SnapshotFiles;
use crate::types;
use crate::types::TypeConfig;
use crate::types::Vote;
use crate::world;
use crate::world::fs::File;
use crate::world::fs::FileExt;

/// Bytes of one message of a transfer.
const CHUNK_BYTES: usize = 1 << 20;
/// Messages on their way; with the chunk size this bounds the memory of a transfer.
const CHUNKS_AHEAD: usize = 4;

/// Sends `snapshot` and waits until it is installed.
pub(super) async fn send(
    client: &mut RaftClient,
    log: &CommitLog,
    vote: Vote,
    snapshot: SnapshotOf<TypeConfig, SnapshotFiles>,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let manifest = snapshot.snapshot.manifest.clone();
    let last = manifest.last_log_id;
    let membership = manifest.membership.clone().unwrap_or_default();
    let message_first = log.message_first();
    let offer = wire::SnapshotOffer {
        vote: Some(types::vote_to_wire(&vote)),
        snapshot_id: last.map_or_else(String::new, |id| format!("{}-{}", id.term, id.index)),
        last_log_id: last,
        membership: membership.membership.unwrap_or_default().encode_to_vec().into(),
        membership_log_id: membership.log_id,
        files: manifest.files.clone(),
        // The position before the first readable entry; what is staged continues it.
        message_first: message_first.checked_sub(1).map(|index| wire::LogId { term: 0, index }),
        crc32c: 0,
    }
    .sealed();
    let snapshot_id = offer.snapshot_id.clone();
    let wanted = client.offer_snapshot(offer).await.map_err(streaming_error)?.into_inner();
    if let Some(higher) = wanted.higher_vote {
        return Ok(SnapshotResponse::new(types::vote_from_wire(higher)));
    }
    tracing::info!(last = ?last, have_log_through = wanted.have_log_through, "sending a snapshot");

    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    let begin = wire::SnapshotBegin { snapshot_id, vote: Some(types::vote_to_wire(&vote)) };
    let frames_from = match wanted.have_log_through {
        0 => message_first,
        have => have + 1,
    };
    let frames_end = last.map_or(0, |id| id.index + 1);
    let log = log.clone();
    let files = snapshot.snapshot;
    let produce = world::task::spawn_reading(async move {
        let parts = Parts(sender);
        parts.send(Part::Begin(begin)).await?;
        send_files(&files, &wanted.have_bytes, &parts).await?;
        send_frames(&log, frames_from, frames_end, &parts).await
    });
    let response = client.install_snapshot(ReceiverStream::new(receiver)).await;
    let produced = produce.await.map_err(io::Error::other).and_then(|result| result);
    let response = response.map_err(streaming_error)?.into_inner();
    produced
        .map_err(|error| StreamingError::Network(NetworkError::from_string(error.to_string())))?;
    Ok(SnapshotResponse::new(types::vote_from_wire(response.vote.unwrap_or_default())))
}

/// Where the messages of a transfer go.
struct Parts(mpsc::Sender<wire::SnapshotChunk>);

impl Parts {
    async fn send(&self, part: Part) -> io::Result<()> {
        let chunk = wire::SnapshotChunk { part: Some(part) };
        self.0.send(chunk).await.map_err(|_| io::Error::other("the receiver has gone"))
    }
}

async fn send_files(files: &SnapshotFiles, have_bytes: &[u64], parts: &Parts) -> io::Result<()> {
    for (number, entry) in files.manifest.files.iter().enumerate() {
        let file = File::open(files.table_path(&entry.name))?;
        let mut offset = have_bytes.get(number).copied().unwrap_or(0);
        loop {
            let count = CHUNK_BYTES.min((entry.size_bytes - offset) as usize);
            let mut data = vec![0; count];
            file.read_exact_at(&mut data, offset)?;
            let data = data.into();
            let chunk = wire::SnapshotFileChunk { file: number as u32, offset, data };
            parts.send(Part::File(chunk)).await?;
            offset += count as u64;
            if offset >= entry.size_bytes {
                break;
            }
        }
    }
    Ok(())
}

async fn send_frames(log: &CommitLog, mut next: u64, end: u64, parts: &Parts) -> io::Result<()> {
    while next < end {
        let frames = log.read_range(next, end, CHUNK_BYTES)?;
        let Some((last, _)) = frames.last() else {
            return Err(io::Error::other(format!("the log no longer holds entry {next}")));
        };
        next = last.index + 1;
        for (_, raw) in frames {
            parts.send(Part::Frames(raw)).await?;
        }
    }
    Ok(())
}

fn streaming_error(status: tonic::Status) -> StreamingError<TypeConfig> {
    let text = format!("{:?}: {}", status.code(), status.message());
    StreamingError::Unreachable(openraft::errors::Unreachable::from_string(text))
}
