//! SyncLiteSubscription: a client says which lite topics of a parent it wants.

use raftmq_proto::raftmq::LiteStart;
use raftmq_proto::raftmq::lite_start::Empty;
use raftmq_proto::raftmq::lite_start::From;
use raftmq_proto::v2;
use raftmq_proto::v2::Code;
use raftmq_proto::v2::LiteSubscriptionAction as Action;
use raftmq_proto::v2::offset_option::OffsetType;
use raftmq_proto::v2::offset_option::Policy;
use tonic::Request;

use super::leader::Terms;
use super::messaging::MessagingService;
use super::messaging::check_names;
use super::status;
use super::status::Refusal;
use crate::lite;
use crate::lite::Sync;

impl MessagingService {
    pub(super) async fn subscribe_lite(
        &self,
        request: Request<v2::SyncLiteSubscriptionRequest>,
    ) -> Result<v2::SyncLiteSubscriptionResponse, Refusal> {
        let terms = Terms::of(request.metadata());
        let client_id = self.client_id(request.metadata())?;
        let (metadata, _, message) = request.into_parts();
        let sync = parse(&message, client_id)?;
        self.here_or_at_leader(
            (terms, &metadata, &message),
            async || {
                lite::sync(&self.node, &sync).await?;
                Ok(v2::SyncLiteSubscriptionResponse { status: Some(status::ok()) })
            },
            async |mut client, request| client.sync_lite_subscription(request).await,
            |answer| &answer.status,
        )
        .await
    }
}

fn parse(message: &v2::SyncLiteSubscriptionRequest, client_id: String) -> Result<Sync, Refusal> {
    check_names(message.topic.as_ref(), message.group.as_ref())?;
    let names = &message.lite_topic_set;
    if names.len() > lite::NAMES_MAX {
        let text = format!(
            "{} lite topics in one call; at most {} are taken",
            names.len(),
            lite::NAMES_MAX
        );
        return Err(Refusal::new(Code::BadRequest, text));
    }
    let action = Action::try_from(message.action).map_err(|_| {
        Refusal::new(Code::BadRequest, format!("no action has number {}", message.action))
    })?;
    let adds = matches!(action, Action::PartialAdd | Action::CompleteAdd);
    if adds {
        names.iter().try_for_each(|name| lite::check_name(name))?;
    }
    let name = |resource: Option<&v2::Resource>| resource.map_or("", |it| &it.name).to_owned();
    Ok(Sync {
        client_id,
        group: name(message.group.as_ref()),
        topic: name(message.topic.as_ref()),
        complete: matches!(action, Action::CompleteAdd | Action::CompleteRemove),
        added: if adds { names.clone() } else { Vec::new() },
        removed: if action == Action::PartialRemove { names.clone() } else { Vec::new() },
        start: start(message.offset_option.as_ref())?,
    })
}

/// Where the client wants to begin. None, or the policy of the last offset: where its group was.
fn start(option: Option<&v2::OffsetOption>) -> Result<Option<LiteStart>, Refusal> {
    let Some(offset_type) = option.and_then(|option| option.offset_type) else { return Ok(None) };
    let count = |number: i64, what: &str| {
        u64::try_from(number).map_err(|_| {
            Refusal::new(Code::IllegalOffset, format!("{what} of {number} is not one"))
        })
    };
    let from = match offset_type {
        OffsetType::Policy(policy) => match Policy::try_from(policy) {
            Ok(Policy::Last) => return Ok(None),
            Ok(Policy::Min) => From::First(Empty {}),
            Ok(Policy::Max) => From::End(Empty {}),
            Err(_) => {
                let text = format!("no policy has number {policy}");
                return Err(Refusal::new(Code::BadRequest, text));
            }
        },
        OffsetType::Offset(offset) => From::Offset(count(offset, "an offset")?),
        OffsetType::TailN(tail) => From::LastCount(count(tail, "a number of messages")?),
        OffsetType::Timestamp(time) => From::TimestampMs(count(time, "a time")?),
    };
    Ok(Some(LiteStart { from: Some(from) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(action: Action, names: &[&str]) -> v2::SyncLiteSubscriptionRequest {
        let resource = |name: &str| Some(v2::Resource { name: name.into(), ..Default::default() });
        v2::SyncLiteSubscriptionRequest {
            action: action.into(),
            topic: resource("sessions"),
            group: resource("g"),
            lite_topic_set: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn what_is_added_must_have_a_name_and_what_goes_may_be_anything() {
        let add = parse(&request(Action::PartialAdd, &["a"]), "c".into()).unwrap();
        assert_eq!((add.complete, add.added, add.removed.len()), (false, vec!["a".to_owned()], 0));
        let all = parse(&request(Action::CompleteAdd, &[]), "c".into()).unwrap();
        assert!(all.complete && all.added.is_empty());
        let none = parse(&request(Action::CompleteRemove, &["a"]), "c".into()).unwrap();
        assert!(none.complete && none.added.is_empty());
        let refused = parse(&request(Action::CompleteAdd, &["a", " "]), "c".into()).unwrap_err();
        assert_eq!(refused.code, Code::IllegalLiteTopic);
        assert!(parse(&request(Action::PartialRemove, &[" "]), "c".into()).is_ok());
    }

    #[test]
    fn a_start_is_what_the_option_says() {
        let of = |offset_type| start(Some(&v2::OffsetOption { offset_type: Some(offset_type) }));
        let from = |offset_type| of(offset_type).unwrap().and_then(|start| start.from);
        assert_eq!(start(None).unwrap(), None);
        assert_eq!(from(OffsetType::Policy(Policy::Last.into())), None);
        assert_eq!(from(OffsetType::Policy(Policy::Max.into())), Some(From::End(Empty {})));
        assert_eq!(from(OffsetType::TailN(3)), Some(From::LastCount(3)));
        assert_eq!(of(OffsetType::Offset(-1)).unwrap_err().code, Code::IllegalOffset);
    }
}
