#!/usr/bin/env python3
"""Checks manifests for Chaos Mesh against our own schema: chaos_check.py FILE...

Then what a schema can not say: that the entry and all children are there, that no template has two
parents or none, that names are unique, and that pods are found by labels which deploy/kubernetes/ gives.
"""

import json
import pathlib
import sys

import jsonschema
import yaml

HERE = pathlib.Path(__file__).parent
# Not in deploy/kubernetes/: the controller of StatefulSets gives the one, label-leader.sh the other.
GIVEN_OTHERWISE = {"statefulset.kubernetes.io/pod-name", "raftmq-role"}


def labels_of_pods():
    """Every (label, value) of a pod template."""
    found = set()
    for path in sorted((HERE / "kubernetes").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] in ("StatefulSet", "Deployment"):
                found |= set(document["spec"]["template"]["metadata"]["labels"].items())
    return found


def selectors(node):
    """Every selector below a node."""
    if isinstance(node, dict):
        if "labelSelectors" in node:
            yield node
        for value in node.values():
            yield from selectors(value)
    elif isinstance(node, list):
        for value in node:
            yield from selectors(value)


def troubles(document, validator, labels):
    """What is wrong, a sentence each."""
    for error in validator.iter_errors(document):
        yield f"{error.json_path}: {error.message}"
        return
    spec = document["spec"]
    names = [template["name"] for template in spec["templates"]]
    if len(set(names)) != len(names):
        yield "two templates have one name"
    children = [child for template in spec["templates"] for child in template.get("children", [])]
    if sorted(children + [spec["entry"]]) != sorted(names):
        yield "entry and children are not all templates, each once"
    for selector in selectors(spec):
        for label in selector["labelSelectors"].items():
            if label[0] not in GIVEN_OTHERWISE and label not in labels:
                yield f"no pod has the label {label[0]}={label[1]}"
        for expression in selector.get("expressionSelectors", []):
            if expression["key"] not in GIVEN_OTHERWISE:
                yield f"no pod has the label {expression['key']}"


def main(paths):
    schema = json.loads((HERE / "chaos-mesh.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    labels = labels_of_pods()
    bad = 0
    for path in map(pathlib.Path, paths):
        text = path.read_text()
        found = list(troubles(yaml.safe_load(text), validator, labels))
        if not text.startswith("#") or "NOT RUN" not in text:
            found.append("does not begin by saying that it was not run")
        for trouble in found:
            print(f"{path}: {trouble}", file=sys.stderr)
        bad += bool(found)
    if bad or not paths:
        sys.exit(f"{bad} of {len(paths)} manifests for Chaos Mesh are wrong")
    print(f"manifests for Chaos Mesh are valid: {len(paths)} workflows, none of them run here")


if __name__ == "__main__":
    main(sys.argv[1:])
