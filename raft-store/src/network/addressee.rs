//! To whom a Raft message goes, said with each call and checked by whoever gets it.
//!
//! Addresses outlive what stood behind them: a node that comes up under the old address of another
//! one, of this group or another, must not answer in its place. An answer "it is on my disk" would
//! count for a node that has nothing, and a vote of another group would depose the leader of this
//! one.
//!
//! Not here: proof of who sends. The network between peers is trusted.

use tonic::Request;
use tonic::Status;
use tonic::metadata::Ascii;
use tonic::metadata::MetadataMap;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;

use crate::planted::Bug;
use crate::planted::planted;
use crate::types::NodeId;

const KEY: &str = "raftmq-to";

/// A node of a group.
#[derive(Clone, Debug)]
pub(crate) struct Addressee {
    value: MetadataValue<Ascii>,
}

impl Addressee {
    /// The node of this id in the group of this hash.
    pub(crate) fn new(group_hash: u64, node_id: NodeId) -> Self {
        let value = format!("{group_hash:016x}/{node_id}");
        // Hexadecimal digits, a slash and digits always are a value.
        Self { value: value.parse().unwrap_or(MetadataValue::from_static("")) }
    }

    /// Refuses a message that is for somebody else, or does not say for whom it is.
    pub(crate) fn check(&self, metadata: &MetadataMap) -> Result<(), Status> {
        match metadata.get(KEY) {
            Some(value) if *value == self.value => Ok(()),
            _ if planted(Bug::StrangerBelieved) => Ok(()),
            other => Err(Status::failed_precondition(format!(
                "the message is for {other:?}, this is {:?}",
                self.value
            ))),
        }
    }
}

impl Interceptor for Addressee {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(KEY, self.value.clone());
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message_to(mut addressee: Addressee) -> MetadataMap {
        let request = addressee.call(Request::new(())).expect("a request");
        request.metadata().clone()
    }

    #[test]
    fn only_messages_for_this_very_node_are_taken() {
        let own = Addressee::new(7, 2);
        assert!(own.check(&message_to(Addressee::new(7, 2))).is_ok());
        let another_node = own.check(&message_to(Addressee::new(7, 3)));
        assert_eq!(another_node.expect_err("refused").code(), tonic::Code::FailedPrecondition);
        assert!(own.check(&message_to(Addressee::new(8, 2))).is_err());
        assert!(own.check(&MetadataMap::new()).is_err());
    }
}
