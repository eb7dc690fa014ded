//! The objects of Chaos Mesh that drills need, as far as they need them.
//!
//! Names of fields are those of its API v1alpha1. `deploy/chaos-mesh.schema.json` describes the same
//! subset for the check of what was written.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Serialize, Serializer};

/// The label that the operator keeps on the pod that leads: Chaos Mesh finds pods by labels.
pub const ROLE: &str = "raftmq-role";

/// The container of a broker's pod.
const BROKER: &str = "broker";
/// Where a broker's pod has its volume.
const VOLUME: &str = "/data";

/// Which pods a fault is about; found when it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pods {
    /// Who leads then.
    Leader,
    /// So many that do not lead, by chance.
    Followers(usize),
    /// All that do not lead.
    AllFollowers,
    /// Any broker, by chance.
    AnyBroker,
    /// All brokers.
    Brokers,
    /// The brokers of these node ids.
    Nodes(Vec<usize>),
    /// All name servers.
    NameServers,
}

/// A mode and a selector, which are always together.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Selected {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    selector: Selector,
}

// Without namespaces: they are then that of the object itself.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Selector {
    label_selectors: BTreeMap<&'static str, String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    expression_selectors: Vec<Expression>,
}

#[derive(Clone, Debug, Serialize)]
struct Expression {
    key: &'static str,
    operator: &'static str,
    values: Vec<String>,
}

impl From<Pods> for Selected {
    fn from(pods: Pods) -> Self {
        let component = if pods == Pods::NameServers { "namesrv" } else { "broker" };
        let mut label_selectors = BTreeMap::from([
            ("app.kubernetes.io/name", "raftmq".to_owned()),
            ("app.kubernetes.io/component", component.to_owned()),
        ]);
        let mut expression_selectors = Vec::new();
        let mut expression = |key, operator, values| {
            expression_selectors.push(Expression { key, operator, values });
        };
        let (mut mode, mut value) = ("all", None);
        match pods {
            Pods::Leader => drop(label_selectors.insert(ROLE, "leader".to_owned())),
            Pods::AllFollowers => expression(ROLE, "NotIn", vec!["leader".to_owned()]),
            Pods::Followers(count) => {
                expression(ROLE, "NotIn", vec!["leader".to_owned()]);
                (mode, value) = ("fixed", Some(count.to_string()));
            }
            Pods::AnyBroker => mode = "one",
            Pods::Nodes(nodes) => {
                let names = nodes.iter().map(|node| format!("raftmq-broker-{node}")).collect();
                expression("statefulset.kubernetes.io/pod-name", "In", names);
            }
            Pods::Brokers | Pods::NameServers => {}
        }
        Self { mode, value, selector: Selector { label_selectors, expression_selectors } }
    }
}

/// One fault, as a template of a workflow holds it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Chaos {
    /// Pods and containers end.
    PodChaos(PodChaos),
    /// Links are cut or bad.
    NetworkChaos(Box<NetworkChaos>),
    /// Calls of files are slow or fail.
    IoChaos(IoChaos),
    /// Clocks are wrong.
    TimeChaos(TimeChaos),
    /// Processor or memory is short.
    StressChaos(StressChaos),
}

/// See [`Chaos`].
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodChaos {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_names: Option<[&'static str; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_period: Option<u64>,
    #[serde(flatten)]
    pods: Selected,
}

/// See [`Chaos`].
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkChaos {
    action: &'static str,
    direction: Direction,
    #[serde(flatten)]
    pods: Selected,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Selected>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_targets: Vec<String>,
    #[serde(flatten)]
    quality: Quality,
}

/// Which packets a [`NetworkChaos`] is about, seen from its pods.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Those they send.
    To,
    /// Those they get.
    From,
    /// All.
    Both,
}

/// What is wrong with a link. Shares are in percent.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Quality {
    /// Packets are late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Delay>,
    /// Packets vanish.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<BTreeMap<&'static str, String>>,
    /// Packets come twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<BTreeMap<&'static str, String>>,
    /// Bits flip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt: Option<BTreeMap<&'static str, String>>,
}

/// See [`Quality`].
#[derive(Clone, Debug, Serialize)]
pub struct Delay {
    latency: String,
    jitter: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    reorder: Option<Reorder>,
}

#[derive(Clone, Debug, Serialize)]
struct Reorder {
    reorder: String,
    gap: u32,
}

impl Quality {
    /// With packets late by about `latency`, of which `reorder_percent` overtake others.
    pub fn delay(mut self, latency: Duration, jitter: Duration, reorder_percent: u32) -> Self {
        let reorder = Reorder { reorder: reorder_percent.to_string(), gap: 1 };
        self.delay = Some(Delay {
            latency: text(latency),
            jitter: text(jitter),
            reorder: (reorder_percent > 0).then_some(reorder),
        });
        self
    }

    /// With so many lost.
    pub fn loss(mut self, percent: u32) -> Self {
        self.loss = Some(BTreeMap::from([("loss", percent.to_string())]));
        self
    }

    /// With so many that come twice.
    pub fn duplicate(mut self, percent: u32) -> Self {
        self.duplicate = Some(BTreeMap::from([("duplicate", percent.to_string())]));
        self
    }

    /// With flipped bits in so many.
    pub fn corrupt(mut self, percent: u32) -> Self {
        self.corrupt = Some(BTreeMap::from([("corrupt", percent.to_string())]));
        self
    }
}

/// See [`Chaos`].
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IoChaos {
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno: Option<u32>,
    methods: &'static [&'static str],
    volume_path: &'static str,
    container_names: [&'static str; 1],
    #[serde(flatten)]
    pods: Selected,
}

/// See [`Chaos`].
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TimeChaos {
    time_offset: &'static str,
    clock_ids: [&'static str; 1],
    container_names: [&'static str; 1],
    #[serde(flatten)]
    pods: Selected,
}

/// See [`Chaos`].
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StressChaos {
    stressors: Stressors,
    container_names: [&'static str; 1],
    #[serde(flatten)]
    pods: Selected,
}

#[derive(Clone, Debug, Serialize)]
struct Stressors {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Stressor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<Stressor>,
}

#[derive(Clone, Debug, Serialize)]
struct Stressor {
    workers: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<String>,
}

impl Chaos {
    /// The broker's process ends by SIGKILL; its pod stays, and starts it again.
    pub fn kill(pods: Pods) -> Self {
        Self::pod("container-kill", Some([BROKER]), None, pods)
    }

    /// The pod is deleted and has `grace_s` seconds to go; another one comes at once.
    pub fn delete(pods: Pods, grace_s: u64) -> Self {
        Self::pod("pod-kill", None, Some(grace_s), pods)
    }

    /// The pod stays, and nothing of ours runs in it.
    pub fn absent(pods: Pods) -> Self {
        Self::pod("pod-failure", None, None, pods)
    }

    fn pod(
        action: &'static str,
        container_names: Option<[&'static str; 1]>,
        grace_period: Option<u64>,
        pods: Pods,
    ) -> Self {
        Self::PodChaos(PodChaos { action, container_names, grace_period, pods: pods.into() })
    }

    /// Nothing goes between `pods` and `target`, or everybody if there is none.
    pub fn cut(pods: Pods, direction: Direction, target: Option<Pods>) -> Self {
        Self::NetworkChaos(Box::new(NetworkChaos {
            action: "partition",
            direction,
            pods: pods.into(),
            target: target.map(Selected::from),
            external_targets: Vec::new(),
            quality: Quality::default(),
        }))
    }

    /// What `brokers` brokers send each other has this quality.
    pub fn bad_links(brokers: usize, quality: Quality) -> Self {
        // A broker calls the others by the addresses of their Services, and answers the addresses of
        // their pods.
        let service = |node| format!("raftmq-broker-{node}.raftmq.svc");
        Self::NetworkChaos(Box::new(NetworkChaos {
            action: "netem",
            direction: Direction::To,
            pods: Pods::Brokers.into(),
            target: Some(Pods::Brokers.into()),
            external_targets: (1..=brokers).map(service).collect(),
            quality,
        }))
    }

    /// Calls of these `methods` on the volume take this much longer.
    pub fn slow_disk(pods: Pods, methods: &'static [&'static str], delay: Duration) -> Self {
        Self::disk("latency", methods, Some(text(delay)), None, pods)
    }

    /// Calls of these `methods` on the volume fail with `errno`.
    pub fn failing_disk(pods: Pods, methods: &'static [&'static str], errno: u32) -> Self {
        Self::disk("fault", methods, None, Some(errno), pods)
    }

    fn disk(
        action: &'static str,
        methods: &'static [&'static str],
        delay: Option<String>,
        errno: Option<u32>,
        pods: Pods,
    ) -> Self {
        Self::IoChaos(IoChaos {
            action,
            delay,
            errno,
            methods,
            volume_path: VOLUME,
            container_names: [BROKER],
            pods: pods.into(),
        })
    }

    /// The wall clock is wrong by `offset`, such as `-1h`.
    pub fn clock(pods: Pods, offset: &'static str) -> Self {
        Self::TimeChaos(TimeChaos {
            time_offset: offset,
            clock_ids: ["CLOCK_REALTIME"],
            container_names: [BROKER],
            pods: pods.into(),
        })
    }

    /// So many processes compete for the processor.
    pub fn busy_processor(pods: Pods, workers: u32) -> Self {
        Self::stress(Stressors { cpu: Some(Stressor { workers, size: None }), memory: None }, pods)
    }

    /// A process takes this much of the memory that the container may use, such as `80%`.
    pub fn full_memory(pods: Pods, size: &str) -> Self {
        let stressor = Stressor { workers: 1, size: Some(size.to_owned()) };
        Self::stress(Stressors { cpu: None, memory: Some(stressor) }, pods)
    }

    fn stress(stressors: Stressors, pods: Pods) -> Self {
        Self::StressChaos(StressChaos { stressors, container_names: [BROKER], pods: pods.into() })
    }

    /// The word by which a template says what it holds.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::PodChaos(_) => "PodChaos",
            Self::NetworkChaos(_) => "NetworkChaos",
            Self::IoChaos(_) => "IOChaos",
            Self::TimeChaos(_) => "TimeChaos",
            Self::StressChaos(_) => "StressChaos",
        }
    }
}

/// A sequence of templates, carried out by Chaos Mesh.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Workflow {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Serialize)]
struct Metadata {
    name: String,
    labels: BTreeMap<&'static str, &'static str>,
}

#[derive(Debug, Serialize)]
struct Spec {
    entry: &'static str,
    templates: Vec<Template>,
}

/// One part of a workflow.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Template {
    name: String,
    template_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "as_text")]
    deadline: Option<Duration>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    children: Vec<String>,
    #[serde(flatten)]
    chaos: Option<Chaos>,
}

impl Workflow {
    /// One that carries out `parts`, one after the other, of `templates`.
    pub fn new(name: String, parts: Vec<String>, mut templates: Vec<Template>) -> Self {
        let entry = "drill";
        templates.insert(0, Template::of(entry.to_owned(), "Serial", None, parts, None));
        Self {
            api_version: "chaos-mesh.org/v1alpha1",
            kind: "Workflow",
            metadata: Metadata {
                name,
                labels: BTreeMap::from([("app.kubernetes.io/name", "raftmq")]),
            },
            spec: Spec { entry, templates },
        }
    }
}

impl Template {
    /// A fault that lasts for `hold`.
    pub fn fault(name: String, hold: Duration, chaos: Chaos) -> Self {
        Self::of(name, chaos.kind(), Some(hold), Vec::new(), Some(chaos))
    }

    /// Several at the same time.
    pub fn parallel(name: String, hold: Duration, children: Vec<String>) -> Self {
        Self::of(name, "Parallel", Some(hold), children, None)
    }

    /// Nothing happens for so long.
    pub fn rest(name: String, rest: Duration) -> Self {
        Self::of(name, "Suspend", Some(rest), Vec::new(), None)
    }

    fn of(
        name: String,
        template_type: &'static str,
        deadline: Option<Duration>,
        children: Vec<String>,
        chaos: Option<Chaos>,
    ) -> Self {
        Self { name, template_type, deadline, children, chaos }
    }
}

fn as_text<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(time.unwrap_or_default()))
}

/// A time in whole milliseconds, as Go reads it.
fn text(time: Duration) -> String {
    match time.as_millis() {
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    }
}
