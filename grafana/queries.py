#!/usr/bin/env python3
"""Checks the queries of dashboard.json and alerts.yml.

    queries.py sources REPOSITORY   every metric that is named occurs in the sources
    queries.py run DIRECTORY URL    every query runs in the Prometheus at URL, over real series
"""

import json
import pathlib
import re
import sys
import urllib.error
import urllib.parse
import urllib.request

# No series before something goes wrong: a counter appears with its first event. These are checked
# against the sources only.
AFTER_A_FAULT = {
    "raftmq_accept_errors_total": "no file descriptor left",
    "raftmq_connections_refused_total": "a client that is no client, or too many of them",
    "raftmq_disk_stalls_total": "a disk that hangs",
    "raftmq_inflight_limit_reached_total": "a consumer that never acknowledges",
    "raftmq_repeated_sends_total": "an acknowledgement that was lost",
    "raftmq_requests_refused_total": "more requests at a time, or sends a second, than the limit",
    "raftmq_requests_without_leader_total": "no majority for seconds",
    "raftmq_snapshots_installed_total": "a follower that was away for long",
    "raftmq_unreadable_messages_total": "a damaged commit log",
    "rocketmq_send_to_dlq_messages_total": "a message that failed at every attempt",
}
# What Prometheus adds to the name of a histogram.
SUFFIXES = ("_bucket", "_sum", "_count")
METRIC = re.compile(r"\b((?:raftmq|rocketmq)_[a-z0-9_]+)")


def dashboard_queries(directory):
    dashboard = json.loads((directory / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']!r}", target["expr"]


def alert_queries(directory):
    """The rules, by indentation: a parser of YAML is not part of Python."""
    name = None
    lines = (directory / "alerts.yml").read_text().splitlines()
    for number, line in enumerate(lines):
        if match := re.match(r"\s*- alert: (\w+)", line):
            name = match[1]
        elif match := re.match(r"(\s*)expr: (.*)", line):
            text = match[2]
            if text == "|":
                block = []
                for following in lines[number + 1:]:
                    if len(following) - len(following.lstrip()) <= len(match[1]):
                        break
                    block.append(following)
                text = "\n".join(block)
            yield f"alert {name}", text


def metrics(query):
    return set(METRIC.findall(query))


def base(metric):
    """The name in the sources."""
    for suffix in SUFFIXES:
        if metric.endswith(suffix):
            return metric.removesuffix(suffix)
    return metric


def check_sources(repository):
    text = "".join(
        path.read_text()
        for crate in ("broker", "raft-store", "namesrv", "listener")
        for path in sorted((repository / crate / "src").rglob("*.rs"))
    )
    known = set(re.findall(r'"((?:raftmq|rocketmq)_[a-z0-9_]+)"', text))
    wrong = []
    directory = repository / "grafana"
    for where, query in [*dashboard_queries(directory), *alert_queries(directory)]:
        for metric in metrics(query):
            if metric not in known and base(metric) not in known:
                wrong.append(f"{where}: no source names {metric}")
    for metric in AFTER_A_FAULT.keys() - known:
        wrong.append(f"queries.py: no source names {metric}")
    return wrong


def ask(url, path, **parameters):
    with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(parameters)}") as answer:
        return json.load(answer)["data"]


def check_run(directory, url):
    wrong = []
    count = 0
    names = set(ask(url, "/api/v1/label/__name__/values"))
    panels, alerts = list(dashboard_queries(directory)), list(alert_queries(directory))
    for where, query in panels + alerts:
        count += 1
        query = query.replace("$__rate_interval", "10s")
        query = query.replace("$cluster", ".*").replace("$job", ".*")
        expected = {metric for metric in metrics(query) if base(metric) not in AFTER_A_FAULT}
        for metric in sorted(expected - names):
            wrong.append(f"{where}: {metric} has no series")
        try:
            result = ask(url, "/api/v1/query", query=query)["result"]
        except urllib.error.HTTPError as error:
            wrong.append(f"{where}: {json.load(error)['error']}\n    {query}")
            continue
        if where.startswith("panel") and expected and not result:
            wrong.append(f"{where}: empty\n    {query}")
    # Prometheus has evaluated the rules by itself as well.
    for group in ask(url, "/api/v1/rules")["groups"]:
        for rule in group["rules"]:
            if rule["health"] == "err":
                wrong.append(f"alert {rule['name']}: {rule['lastError']}")
            if rule["state"] == "firing":
                wrong.append(f"alert {rule['name']} fires on a healthy cluster: {rule['alerts']}")
    if not alerts or not panels:
        wrong.append("no queries were found")
    print(f"{count} queries tried, of {len(panels)} in panels and {len(alerts)} in alerts")
    return wrong


def main():
    what, *arguments = sys.argv[1:]
    if what == "sources":
        wrong = check_sources(pathlib.Path(arguments[0]))
    else:
        wrong = check_run(pathlib.Path(arguments[0]), arguments[1])
    for text in wrong:
        print(text, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
