//! Where the queues of a topic are, and keeping that knowledge fresh.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use raftmq_proto::v2::MessageQueue;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tracing::debug;

use super::CallError;
use super::link::Link;
use super::links::first_answer;

/// How often a route is asked again, as official clients do.
const REFRESH_INTERVAL: Duration = Duration::from_secs(30);
/// Shortest time between two questions, however many calls fail.
const REFRESH_PAUSE: Duration = Duration::from_millis(200);

/// The queues of one topic, in the server's order.
#[derive(Clone, Debug)]
pub struct Route {
    /// At least one.
    pub queues: Vec<Queue>,
    /// Every broker of the route once, in order of appearance: the leader's group first.
    pub brokers: Vec<Broker>,
}

/// One queue as a producer or consumer may address it.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its id. Servers take it as a hint.
    pub id: i32,
    /// Position in [`Route::brokers`].
    pub broker: usize,
    /// As the server sent it, to be sent back in requests.
    pub(crate) wire: MessageQueue,
}

/// One broker of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its name.
    pub name: String,
    /// `host:port`.
    pub address: String,
}

impl Route {
    /// Makes sense of an answer; queues without a usable broker are left out.
    pub(crate) fn from_wire(queues: Vec<MessageQueue>) -> Self {
        let mut route = Route { queues: Vec::new(), brokers: Vec::new() };
        let mut positions = BTreeMap::new();
        for wire in queues {
            let Some(broker) = usable_broker(&wire) else { continue };
            let brokers = &mut route.brokers;
            let position = *positions.entry(broker.name.clone()).or_insert_with(|| {
                brokers.push(broker);
                brokers.len() - 1
            });
            route.queues.push(Queue { id: wire.id, broker: position, wire });
        }
        route
    }
}

/// Clients only use brokers with id 0, and a broker without an address is of no use.
fn usable_broker(queue: &MessageQueue) -> Option<Broker> {
    let broker = queue.broker.as_ref()?;
    let address = broker.endpoints.as_ref()?.addresses.first()?;
    let host = match address.host.contains(':') {
        true => format!("[{}]", address.host),
        false => address.host.clone(),
    };
    (broker.id == 0)
        .then(|| Broker { name: broker.name.clone(), address: format!("{host}:{}", address.port) })
}

/// A route that is asked again from time to time, and at once when something failed.
pub(crate) struct RouteWatch {
    current: Arc<RwLock<Arc<Route>>>,
    outdated: Arc<Notify>,
    task: AbortHandle,
}

impl RouteWatch {
    /// Asks the endpoints in turn until one answers.
    pub(crate) async fn start(endpoints: Vec<Link>, topic: String) -> Result<Self, CallError> {
        let route = query(&endpoints, &topic).await?;
        let current = Arc::new(RwLock::new(Arc::new(route)));
        let outdated = Arc::new(Notify::new());
        let refresh = refresh(endpoints, topic, Arc::clone(&current), Arc::clone(&outdated));
        let task = tokio::spawn(refresh).abort_handle();
        Ok(Self { current, outdated, task })
    }

    pub(crate) fn current(&self) -> Arc<Route> {
        Arc::clone(&self.current.read())
    }

    /// Says that a call failed, which a change of the route may explain.
    pub(crate) fn refresh_soon(&self) {
        self.outdated.notify_one();
    }
}

impl Drop for RouteWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn refresh(
    endpoints: Vec<Link>,
    topic: String,
    current: Arc<RwLock<Arc<Route>>>,
    outdated: Arc<Notify>,
) {
    loop {
        // Either way it is time.
        let _elapsed = tokio::time::timeout(REFRESH_INTERVAL, outdated.notified()).await;
        match query(&endpoints, &topic).await {
            Ok(route) => *current.write() = Arc::new(route),
            // The old route may still be right: it is all there is.
            Err(error) => debug!(%error, topic, "could not refresh the route"),
        }
        tokio::time::sleep(REFRESH_PAUSE).await;
    }
}

async fn query(endpoints: &[Link], topic: &str) -> Result<Route, CallError> {
    let query = |endpoint: Link| async move { endpoint.query_route(topic).await };
    first_answer(endpoints.iter().cloned(), query).await
}

#[cfg(test)]
mod tests {
    use raftmq_proto::raftmq::GroupRoute;
    use raftmq_proto::raftmq::RouteMember;
    use raftmq_proto::raftmq::RouteTopic;
    use raftmq_proto::route::Shape;
    use raftmq_proto::route::message_queues;
    use raftmq_proto::v2::Resource;

    use super::*;

    #[test]
    fn brokers_appear_once_and_the_leader_first() {
        let member = |node_id| RouteMember {
            node_id,
            broker_name: format!("a-{node_id}"),
            client_address: format!("[::1]:{}", 8081 + node_id),
        };
        let group = GroupRoute {
            leader_id: 2,
            members: vec![member(1), member(2)],
            ..GroupRoute::default()
        };
        let topic = RouteTopic { queue_count: 3, ..RouteTopic::default() };
        let route = Route::from_wire(message_queues(
            &group,
            &topic,
            &Resource::default(),
            Shape::OneAddress,
        ));
        let brokers: Vec<_> = route.brokers.iter().map(|b| (&*b.name, &*b.address)).collect();
        assert_eq!(brokers, [("a-2", "[::1]:8083"), ("a-1", "[::1]:8082")]);
        let queues: Vec<_> = route.queues.iter().map(|queue| (queue.id, queue.broker)).collect();
        assert_eq!(queues, [(0, 0), (1, 0), (2, 0), (0, 1)]);
    }

    #[test]
    fn what_clients_can_not_use_is_left_out() {
        let mut follower = MessageQueue::default();
        follower.broker.get_or_insert_default().id = 1;
        let route = Route::from_wire(vec![MessageQueue::default(), follower]);
        assert!(route.queues.is_empty());
    }
}
