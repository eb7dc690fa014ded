//! What producers say after a send: how a transaction ended, and that a message is not wanted after all.

use raftmq_proto::names;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use tonic::Request;

use super::leader::Terms;
use super::messaging::MessagingService;
use super::status;
use super::status::Refusal;
use crate::recall;
use crate::transaction;

impl MessagingService {
    pub(super) async fn decide(
        &self,
        request: Request<v2::EndTransactionRequest>,
    ) -> Result<v2::EndTransactionResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        check_topic(message.topic.as_ref())?;
        if message.transaction_id.trim().is_empty() {
            let text = "the transaction id must not be blank";
            return Err(Refusal::new(Code::InvalidTransactionId, text));
        }
        self.here_or_at_leader(
            (terms, &metadata, &message),
            async || {
                transaction::end(&self.node, &message).await?;
                Ok(v2::EndTransactionResponse { status: Some(status::ok()) })
            },
            async |mut client, request| client.end_transaction(request).await,
            |answer| &answer.status,
        )
        .await
    }

    pub(super) async fn recall(
        &self,
        request: Request<v2::RecallMessageRequest>,
    ) -> Result<v2::RecallMessageResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        check_topic(message.topic.as_ref())?;
        self.here_or_at_leader(
            (terms, &metadata, &message),
            async || {
                let message_id = recall::recall(&self.node, &message).await?;
                Ok(v2::RecallMessageResponse { status: Some(status::ok()), message_id })
            },
            async |mut client, request| client.recall_message(request).await,
            |answer| &answer.status,
        )
        .await
    }
}

fn check_topic(topic: Option<&v2::Resource>) -> Result<(), Refusal> {
    names::topic(topic.map_or("", |topic| &topic.name)).map_err(status::illegal_topic)
}
