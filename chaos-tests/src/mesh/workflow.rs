//! A drill's plan as a workflow, under a head that says what it is.

use std::fmt::Write as _;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::object::{ROLE, Template, Workflow};
use super::{Counterpart, Export, Reason, Setting, VERSION, file_name};
use crate::drill::Drill;

/// Chance begins here in what is exported.
const SEED: u64 = 1;

/// What `deploy/kubernetes` installs.
const BROKERS_INSTALLED: usize = 3;

/// Chaos Mesh takes seconds to begin a fault, and what ends before it began does nothing.
const HOLD_MIN: Duration = Duration::from_secs(10);

/// How long Kubernetes waits before it starts a container that ended for the `count`th time.
fn backoff(count: u32) -> Duration {
    match count {
        0 => Duration::ZERO,
        count => Duration::from_secs((10 << (count - 1).min(5)).min(300)),
    }
}

/// Templates as they come about.
#[derive(Default)]
struct Parts {
    order: Vec<String>,
    templates: Vec<Template>,
    took: Duration,
    ended: u32,
    differences: Vec<&'static str>,
}

pub(super) fn export(drill: &Drill) -> anyhow::Result<Export> {
    let mut random = ChaCha8Rng::seed_from_u64(SEED);
    let mut parts = Parts::default();
    let mut left_out: Vec<(String, Reason)> = Vec::new();
    let steps = (drill.plan)(&mut random);
    if steps.is_empty() {
        return Ok(Export::Nothing(vec![(drill.name.to_owned(), "it breaks nothing")]));
    }
    for step in steps {
        let name = step.fault.name();
        let setting = Setting { size: drill.size, hold: step.hold };
        match step.fault.in_chaos_mesh(&setting) {
            Ok(counterpart) => parts.add(name, counterpart, step.rest),
            Err(_) if left_out.iter().any(|(known, _)| known == name) => {}
            Err(reason) => left_out.push((name.to_owned(), reason)),
        }
    }
    if parts.templates.is_empty() {
        return Ok(Export::Nothing(left_out));
    }
    let notes = notes(drill, &parts.differences, &left_out);
    let took = parts.took;
    let workflow = Workflow::new(format!("raftmq-{}", drill.name), parts.order, parts.templates);
    let workflow = serde_saphyr::to_string(&workflow)?;
    let head = head(drill, &notes, took, workflow.contains(ROLE));
    Ok(Export::Manifest { text: format!("{head}{workflow}"), left_out })
}

impl Parts {
    fn add(&mut self, fault: &str, counterpart: Counterpart, rest: Duration) {
        let last = counterpart.stages.len().saturating_sub(1);
        for (number, stage) in counterpart.stages.into_iter().enumerate() {
            let place = self.order.len() / 2 + 1;
            let name = format!("step-{place}-{fault}");
            let hold = stage.hold.max(HOLD_MIN);
            let mut chaos = stage.chaos;
            if chaos.len() == 1 {
                let only = chaos.remove(0);
                self.templates.push(Template::fault(name.clone(), hold, only));
            } else {
                let child = |number: usize| format!("{name}-{}", number + 1);
                let children = (0..chaos.len()).map(child).collect();
                self.templates.push(Template::parallel(name.clone(), hold, children));
                let each = chaos.into_iter().enumerate();
                let each = each.map(|(number, it)| Template::fault(child(number), hold, it));
                self.templates.extend(each);
            }
            let mut pause = if number == last { rest } else { Duration::ZERO } + stage.rest;
            if stage.restarts {
                pause += backoff(self.ended);
                self.ended += 1;
            }
            let rest_name = format!("rest-{place}");
            self.templates.push(Template::rest(rest_name.clone(), pause));
            self.order.extend([name, rest_name]);
            self.took += hold + pause;
        }
        for difference in counterpart.differences {
            if !self.differences.contains(&difference) {
                self.differences.push(difference);
            }
        }
    }
}

/// In what a manifest is not its drill, and what it asks of the cluster.
fn notes(drill: &Drill, differences: &[&str], left_out: &[(String, Reason)]) -> Vec<String> {
    let mut notes: Vec<String> = differences.iter().map(|it| (*it).to_owned()).collect();
    notes.extend(left_out.iter().map(|(name, reason)| format!("{name} is left out: {reason}.")));
    if drill.size.brokers != BROKERS_INSTALLED {
        notes.push(format!(
            "Made for {} brokers: deploy/kubernetes/broker.yaml has {BROKERS_INSTALLED}, and needs \
             the others' Services, and all in RAFTMQ_MEMBERS, before the group is founded.",
            drill.size.brokers
        ));
    }
    if !drill.broker_options.is_empty() {
        let variables: Vec<String> = drill.broker_options.iter().map(|it| variable(it)).collect();
        notes.push(format!("Brokers need these variables: {}.", variables.join(" ")));
    }
    notes
}

/// What one must know before one applies it.
fn head(drill: &Drill, notes: &[String], took: Duration, has_leader: bool) -> String {
    let (name, file) = (drill.name, file_name(drill));
    let minutes = took.as_secs().div_ceil(60);
    let mut text = String::new();
    let paragraph = |text: &mut String, words: &str| {
        wrap(text, words, "# ", "# ");
        text.push_str("#\n");
    };
    paragraph(&mut text, &format!("{name}: {}", drill.about));
    paragraph(
        &mut text,
        &format!(
            "NOT RUN by this project: its fields are checked against those of Chaos Mesh {VERSION} \
             (deploy/check.sh); what it does to a cluster was not seen. It only breaks, for about \
             {minutes} min: load and judgement are yours. Written by `chaos export`."
        ),
    );
    if !notes.is_empty() {
        text.push_str("# Other than the drill:\n");
        for note in notes {
            wrap(&mut text, note, "# - ", "#   ");
        }
        text.push_str("#\n");
    }
    if has_leader {
        let words = format!(
            "Who leads is known by the label {ROLE}=leader, which label-leader.sh keeps where it \
             belongs; without it faults of the leader find no pod."
        );
        paragraph(&mut text, &words);
        text.push_str("#   deploy/label-leader.sh raftmq &\n");
    }
    let _ = write!(
        text,
        "#   kubectl --namespace raftmq apply --filename deploy/chaos/{file}\n\
         #   kubectl --namespace raftmq get workflownodes --watch\n\
         #   kubectl --namespace raftmq delete workflow raftmq-{name}\n"
    );
    text
}

/// `--segment-bytes=1` as `RAFTMQ_SEGMENT_BYTES=1`.
fn variable(option: &str) -> String {
    let (name, value) = option.trim_start_matches('-').split_once('=').unwrap_or((option, ""));
    format!("RAFTMQ_{}={value}", name.replace('-', "_").to_uppercase())
}

/// Lines of at most 100 characters.
fn wrap(text: &mut String, paragraph: &str, first: &str, others: &str) {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in paragraph.split_whitespace() {
        if !is_empty && line.len() + 1 + word.len() > 100 {
            text.push_str(line.trim_end());
            text.push('\n');
            line = others.to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    text.push_str(line.trim_end());
    text.push('\n');
}
