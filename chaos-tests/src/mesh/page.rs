//! `deploy/chaos/README.md`: what there is, and what there is not.

use super::{Export, Reason, VERSION, file_name};
use crate::drill::Drill;

const HEAD: &str = "\
# The drills as manifests for Chaos Mesh

Written by `chaos export`; a test fails while this folder is not what it would write.

**Not run by this project.** The manifests are checked against a schema of our own that has only what they
use (`deploy/check.sh`, part of `make test`), made from the field names of Chaos Mesh VERSION. Nobody here
has seen them break a cluster. They break; they neither load a cluster nor judge it: `chaos drill` does.

    deploy/label-leader.sh raftmq &
    kubectl --namespace raftmq apply --filename deploy/chaos/kill-leader.yaml
    kubectl --namespace raftmq get workflownodes --watch

- Each file is a Workflow in the namespace it is applied in, against the pods of `deploy/kubernetes/`.
- Chaos Mesh finds pods by labels, and no label of a pod says who leads. `label-leader.sh` asks again
  and again and keeps the label `raftmq-role=leader` on that pod. While it does not run, faults of the leader
  find no pod, and the workflow shows it.
- A fault lasts at least 10 s: Chaos Mesh needs seconds to begin one.
- Kubernetes starts a container that ended again and again later and later: 0, 10, 20, 40 … 300 s. Rests
  after kills are longer than the drill's by that.
- A manifest loads nothing, so that the drills `messages-NAME`, which make the faults of NAME under another
  load, have none of their own.
- `container-kill` is `kill -9`: nothing is handed over. `pod-kill` runs the hook that hands over.

To check them against Chaos Mesh's own definitions, which are not part of this repository, apply
`config/crd/bases/` of its release to a Kubernetes, and then

    kubectl apply --dry-run=server --validate=strict --filename deploy/chaos/

| drill | what is there |
|---|---|
";

pub(super) fn readme(exports: &[(&Drill, Export)]) -> String {
    let mut text = HEAD.replace("VERSION", VERSION);
    for (drill, export) in exports {
        let what = match export {
            Export::Manifest { left_out, .. } if left_out.is_empty() => link(drill),
            Export::Manifest { left_out, .. } => {
                format!("{}, without {}", link(drill), reasons(left_out))
            }
            // One reason is enough, if it is the same for all.
            Export::Nothing(left_out) => match &left_out[..] {
                [(_, reason), others @ ..] if others.iter().all(|(_, other)| other == reason) => {
                    format!("not exported: {reason}")
                }
                several => format!("not exported: {}", reasons(several)),
            },
        };
        text.push_str(&format!("| {} | {what} |\n", drill.name));
    }
    text
}

fn link(drill: &Drill) -> String {
    let file = file_name(drill);
    format!("[`{file}`]({file})")
}

fn reasons(left_out: &[(String, Reason)]) -> String {
    let each = left_out.iter().map(|(name, reason)| format!("{name} ({reason})"));
    each.collect::<Vec<_>>().join(", ")
}
