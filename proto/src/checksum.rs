//! Checksums of what nodes of a group say to each other about votes and positions.
//!
//! TCP lets one damaged segment in some ten thousand pass, and memory and network cards damage more.
//! Entries have checksums of their own, since they travel as the frames that lie on disk. But an
//! answer in which only the index is damaged would count as a copy that nobody has, and a damaged
//! commit index would be applied.
//!
//! Not here: clients' messages, which have a digest of their body; proof of who sends.

use bytes::Bytes;
use prost::Message;

use crate::raftmq;

/// A message that is not as it was sent, or that was sent without a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("checksum {said:08x} instead of {is:08x} in a message between nodes")]
pub struct Damaged {
    said: u32,
    is: u32,
}

/// A message that carries the CRC-32C of its own encoding, computed with the checksum left out.
pub trait Checksummed: Message + Sized {
    /// Where the checksum stands.
    fn crc32c_mut(&mut self) -> &mut u32;

    /// A part with checksums of its own: only its length is covered.
    fn apart_mut(&mut self) -> Option<&mut Bytes> {
        None
    }

    /// The message with its checksum.
    fn sealed(mut self) -> Self {
        *self.crc32c_mut() = 0;
        *self.crc32c_mut() = checksum(&mut self);
        self
    }

    /// The message as it was before [`Self::sealed`].
    ///
    /// # Errors
    /// It has changed since, or was never sealed.
    fn verified(mut self) -> Result<Self, Damaged> {
        let said = std::mem::take(self.crc32c_mut());
        let is = checksum(&mut self);
        if said == is { Ok(self) } else { Err(Damaged { said, is }) }
    }
}

fn checksum<M: Checksummed>(message: &mut M) -> u32 {
    let apart = message.apart_mut().map(std::mem::take).unwrap_or_default();
    let covered = crc32c::crc32c(&message.encode_to_vec());
    let sum = crc32c::crc32c_append(covered, &(apart.len() as u64).to_le_bytes());
    if let Some(place) = message.apart_mut() {
        *place = apart;
    }
    sum
}

macro_rules! checksummed {
    ($($message:ty),+) => {$(
        impl Checksummed for $message {
            fn crc32c_mut(&mut self) -> &mut u32 {
                &mut self.crc32c
            }
        }
    )+};
}

checksummed!(
    raftmq::AppendResponse,
    raftmq::VoteRequest,
    raftmq::VoteResponse,
    raftmq::TransferLeaderRequest,
    raftmq::SnapshotOffer
);

impl Checksummed for raftmq::AppendRequest {
    fn crc32c_mut(&mut self) -> &mut u32 {
        &mut self.crc32c
    }

    fn apart_mut(&mut self) -> Option<&mut Bytes> {
        Some(&mut self.frames)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> raftmq::AppendRequest {
        raftmq::AppendRequest {
            vote: Some(raftmq::Vote { term: 3, node_id: 1, committed: true }),
            leader_commit: Some(raftmq::LogId { term: 3, index: 70 }),
            frames: Bytes::from_static(b"frames"),
            ..Default::default()
        }
    }

    #[test]
    fn what_was_sealed_comes_out_as_it_went_in() {
        assert_eq!(request().sealed().verified(), Ok(request()));
    }

    #[test]
    fn a_damaged_position_vote_or_length_is_noticed() {
        let mut commit = request().sealed();
        commit.leader_commit = Some(raftmq::LogId { term: 3, index: 71 });
        let mut vote = request().sealed();
        vote.vote = None;
        let mut shorter = request().sealed();
        shorter.frames = Bytes::from_static(b"frame");
        for damaged in [commit, vote, shorter] {
            assert!(damaged.verified().is_err());
        }
    }

    #[test]
    fn an_index_that_nobody_reached_is_no_answer() {
        use raftmq::append_response::Result as Answer;
        let answer = |index| {
            let log_id = Some(raftmq::LogId { term: 1, index });
            let flushed = raftmq::Flushed { log_id, partial: false };
            raftmq::AppendResponse { result: Some(Answer::Flushed(flushed)), crc32c: 0 }
        };
        let sealed = answer(7768).sealed();
        let damaged = raftmq::AppendResponse { crc32c: sealed.crc32c, ..answer(7768 + 512) };
        assert!(damaged.verified().is_err());
        assert!(answer(7768).verified().is_err(), "never sealed");
    }
}
