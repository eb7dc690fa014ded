//! Candidates that must not get a vote.
//!
//! What a vote is worth shows only when two stand for election at the very wrong moments, which clusters
//! do hardly ever. So here the harness stands itself: it says to a voter what another member of the group
//! might have said, and the voter can not tell the difference.

use std::time::Duration;

use anyhow::{Context, ensure};
use raftmq_proto::checksum::Checksummed as _;
use raftmq_proto::raftmq as wire;
use raftmq_proto::raftmq::peer_client::PeerClient;
use serde_json::json;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;

use super::peer::peer;
use super::process::{Target, names};
use super::{Bite, Fault, Field, Step};
use crate::disk::volume;
use crate::mesh::{Counterpart, Reason, Setting};
use crate::{must, until};

/// XXH3 of `DefaultCluster/broker-a`: the group whose members are spoken to.
const GROUP_HASH: u64 = 0xb985_a41e_9904_d749;
/// For a voter whose leader is gone to give somebody its vote.
const VOTE_LIMIT: Duration = Duration::from_secs(10);
const START_LIMIT: Duration = Duration::from_secs(20);

/// All but one broker are killed. Its vote is asked for by one whose log is shorter, which must not get it;
/// then by one whose log is as long, and as soon as that has it the voter loses its power. Once it is back,
/// yet another one asks for its vote in that term, and must not get it.
#[derive(Default)]
pub struct FalseCandidates {
    voter: usize,
    candidates: [usize; 2],
    given: Option<Given>,
}

/// A vote that was given to the first candidate.
struct Given {
    term: u64,
    log: wire::LogId,
}

impl Fault for FalseCandidates {
    fn name(&self) -> &'static str {
        "false-candidates"
    }

    fn parameters(&self) -> serde_json::Value {
        json!({ "voter": self.voter + 1 })
    }

    fn choose<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Vec<String>> {
        Box::pin(async move {
            ensure!(field.cluster.size() == 3, "more brokers would elect without the voter");
            self.voter = Target::Follower.choose(field).await?[0];
            self.candidates = [(self.voter + 1) % 3, (self.voter + 2) % 3];
            Ok(names(field, &[self.voter, self.candidates[0], self.candidates[1]]))
        })
    }

    fn begin<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, ()> {
        Box::pin(async move {
            field.cluster.kill_several(&self.candidates)?;
            let mut voter = Voter::new(field, self.voter)?;
            let given = voter.give(self.candidates[0] as u64 + 1).await?;
            // At once: whatever is flushed next may take the vote along.
            let pid = field.cluster.pid(self.voter).context("the voter is down")?;
            volume::power_cut(&[&field.volumes[self.voter]], &[pid])?;
            field.cluster.kill(self.voter)?;
            self.given = Some(given);
            Ok(())
        })
    }

    fn end<'a>(&'a mut self, field: &'a mut Field) -> Step<'a, Bite> {
        Box::pin(async move {
            field.volumes[self.voter].remount()?;
            field.cluster.restart(self.voter)?;
            let given = self.given.take().context("nobody has the vote")?;
            let mut voter = Voter::new(field, self.voter)?;
            voter.refuse(self.candidates[1] as u64 + 1, &given).await?;
            for broker in self.candidates {
                field.cluster.restart(broker)?;
            }
            let (name, term) = (&voter.name, given.term);
            Ok(Bite::Bit(format!("{name} lost its power and not its vote in term {term}")))
        })
    }

    fn in_chaos_mesh(&self, _: &Setting) -> Result<Counterpart, Reason> {
        Err("Chaos Mesh asks no broker for its vote")
    }
}

/// A broker, as others of its group speak to it.
struct Voter {
    name: String,
    client: PeerClient<Channel>,
    addressee: MetadataValue<Ascii>,
}

impl Voter {
    fn new(field: &Field, broker: usize) -> anyhow::Result<Self> {
        Ok(Self {
            name: field.cluster.name(broker).to_owned(),
            client: peer(field, broker)?,
            addressee: format!("{GROUP_HASH:016x}/{}", broker + 1).parse()?,
        })
    }

    /// Makes it vote for `candidate`, once it does not believe in its leader any more.
    async fn give(&mut self, candidate: u64) -> anyhow::Result<Given> {
        let name = self.name.clone();
        let ready = format!("{name} to be ready to vote");
        let given = until(&ready, VOTE_LIMIT, async || {
            let known = self.ask(candidate, 0, None, true).await?;
            let log = known.last_log_id.context("its log is empty")?;
            let term = known.vote.context("it has no vote")?.term + 1;
            let would = self.ask(candidate, term, Some(log), true).await?;
            ensure!(would.granted, "it still believes in a leader");
            Ok(Given { term, log })
        });
        let Given { term, log } = given.await?;
        let shorter = wire::LogId { index: log.index.saturating_sub(1), ..log };
        let answer = self.ask(candidate, term, Some(shorter), false).await?;
        must!(
            !answer.granted,
            "{name} voted in term {term} for a broker whose log ends at {}, its own ends at {}",
            shorter.index,
            log.index
        );
        let answer = self.ask(candidate, term, Some(log), false).await?;
        ensure!(answer.granted, "{name} voted for nobody in term {term}");
        Ok(Given { term, log })
    }

    /// Sees that it does not vote for another `candidate` in that term.
    async fn refuse(&mut self, candidate: u64, given: &Given) -> anyhow::Result<()> {
        let (name, term) = (self.name.clone(), given.term);
        let back = format!("{name} to be back");
        let answer = until(&back, START_LIMIT, async || {
            self.ask(candidate, term, Some(given.log), false).await
        });
        let answer = answer.await?;
        must!(!answer.granted, "{name} voted twice in term {term}: a power cut lay between");
        let known = answer.vote.map_or(0, |vote| vote.term);
        must!(
            known >= term,
            "{name} voted in term {term}, and after a power cut it knows of term {known} only"
        );
        Ok(())
    }

    async fn ask(
        &mut self,
        candidate: u64,
        term: u64,
        last_log_id: Option<wire::LogId>,
        pre_vote: bool,
    ) -> anyhow::Result<wire::VoteResponse> {
        let message = wire::VoteRequest {
            vote: Some(wire::Vote { term, node_id: candidate, committed: false }),
            last_log_id,
            leadership_transfer: false,
            pre_vote,
            ..Default::default()
        };
        let mut request = tonic::Request::new(message.sealed());
        request.metadata_mut().insert("raftmq-to", self.addressee.clone());
        Ok(self.client.vote(request).await?.into_inner())
    }
}
