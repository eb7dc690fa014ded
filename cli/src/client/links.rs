//! The connections of one client, one for each broker address.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use parking_lot::RwLock;
use raftmq_proto::v2::Resource;
use raftmq_proto::v2::Settings;

use super::CallError;
use super::Outcome;
use super::Route;
use super::identity::Identity;
use super::link::Link;

/// How long a leave-taking may take in all.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// Grows with the addresses that routes have ever named, which are few.
pub(crate) struct Links {
    identity: Identity,
    timeout: Duration,
    by_address: RwLock<HashMap<String, Link>>,
}

impl Links {
    pub(crate) fn new(identity: Identity, timeout: Duration) -> Self {
        Self { identity, timeout, by_address: RwLock::default() }
    }

    pub(crate) fn client_id(&self) -> &str {
        self.identity.client_id()
    }

    /// The connection to `address`, which may not have been opened yet.
    pub(crate) fn to(&self, address: &str) -> Result<Link, CallError> {
        if let Some(link) = self.by_address.read().get(address) {
            return Ok(link.clone());
        }
        let link = Link::new(address, self.identity.clone(), self.timeout)?;
        Ok(self.by_address.write().entry(address.to_owned()).or_insert(link).clone())
    }

    /// The broker at position `start` of the route, counted on from the beginning after the last
    /// one. A broker that did not answer a moment ago is passed over as long as another one is
    /// left.
    pub(crate) fn pick(&self, route: &Route, start: usize) -> Result<(usize, Link), CallError> {
        let count = route.brokers.len();
        let preferred = start % count;
        for position in (preferred..count).chain(0..preferred) {
            let link = self.to(&route.brokers[position].address)?;
            if !link.is_suspect() {
                return Ok((position, link));
            }
        }
        Ok((preferred, self.to(&route.brokers[preferred].address)?))
    }

    /// Exchanges settings with the first broker of the route that answers.
    ///
    /// # Errors
    /// As [`first_answer`].
    pub(crate) async fn greet_any(
        &self,
        route: &Route,
        settings: &Settings,
    ) -> Result<(), CallError> {
        let links = route.brokers.iter().map(|broker| self.to(&broker.address));
        let links: Vec<Link> = links.collect::<Result<_, _>>()?;
        first_answer(links, |link| async move { link.greet(settings).await.map(drop) }).await
    }

    pub(crate) async fn leave(&self, group: Option<Resource>) {
        let links: Vec<Link> = self.by_address.read().values().cloned().collect();
        let leaves = links.iter().map(|link| link.leave(group.clone()));
        // A courtesy: whoever does not hear it notices the end of the telemetry stream.
        let _late = tokio::time::timeout(LEAVE_TIMEOUT, futures::future::join_all(leaves)).await;
    }
}

/// Makes a call at one server after the other until one gives an answer that would be the same
/// everywhere, be it a refusal.
///
/// # Errors
/// That refusal, or the last server's error when none answers; but the first error after which the
/// call may have taken effect, if there was one: what follows it does not take it back.
pub(crate) async fn first_answer<T, Fut>(
    links: impl IntoIterator<Item = Link>,
    call: impl Fn(Link) -> Fut,
) -> Result<T, CallError>
where
    Fut: Future<Output = Result<T, CallError>>,
{
    let mut failure = CallError::NoAddress;
    for link in links {
        let error = match call(link).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let final_answer = !error.is_worth_retrying();
        if failure.outcome() == Outcome::NotDone {
            failure = error;
        }
        if final_answer {
            break;
        }
    }
    Err(failure)
}
