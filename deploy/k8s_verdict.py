#!/usr/bin/env python3
"""Judges what k8s-test.sh recorded: k8s_verdict.py missing|all DIRECTORY.

sent, received      JSON lines of the client driver
topic, status       the operator commands' JSON at the end
volumes.*, terms    before and after
probe               the line that raftmq bench send ended with
events              when what was done to the cluster, in milliseconds
"""

import json
import pathlib
import sys
from collections import Counter


def lines(path):
    # A line that is still being written is not there yet.
    return [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")]


def gap_after(successes, begin, end):
    """The longest time between two successful sends, of which one is in [begin, end)."""
    longest = 0
    for earlier, later in zip(successes, successes[1:]):
        if begin <= later and earlier < end:
            longest = max(longest, later - earlier)
    return longest


def main():
    what, directory = sys.argv[1], pathlib.Path(sys.argv[2])
    sent, received = lines(directory / "sent"), lines(directory / "received")
    acknowledged = {line["v"] for line in sent if line["ok"]}
    failed = [line for line in sent if not line["ok"]]
    deliveries = Counter(line["v"] for line in received)
    missing = acknowledged - deliveries.keys()
    if what == "missing":
        return 1 if missing else 0

    queues = json.loads((directory / "topic").read_text().splitlines()[0])["queues"]
    stored = sum(queue["max_offset"] for queue in queues)
    members = json.loads((directory / "status").read_text())[0]["members"]
    before = (directory / "volumes.before").read_text()
    after = (directory / "volumes.after").read_text()
    term_before, term_after = map(int, (directory / "terms").read_text().split())

    print(f"sends: {len(sent)}, acknowledged {len(acknowledged)}, failed {len(failed)}")
    for line in failed[:5]:
        print(f"  failed at {line['t_ms']}: {line.get('err', '')[:300]}")
    print(f"received: {len(deliveries)} different, missing {len(missing)}, "
          f"delivered more than once {sum(1 for n in deliveries.values() if n > 1)}")
    print(f"stored: {stored} messages in {len(queues)} queues")
    events = [line.split(" ", 1) for line in (directory / "events").read_text().splitlines()]
    successes = sorted(line["end_ms"] for line in sent if line["ok"])
    slow = sorted(line["end_ms"] - line["t_ms"] for line in sent if line["ok"])
    print(f"send latency: p50 {slow[len(slow) // 2]} ms, p99 {slow[len(slow) * 99 // 100]} ms, "
          f"longest {slow[-1]} ms")
    for (begin, name), (end, _) in zip(events, events[1:]):
        print(f"longest gap between successful sends {gap_after(successes, int(begin), int(end))} "
              f"ms after: {name}")
    print(f"raftmq bench send beside it: {(directory / 'probe').read_text().strip()}")
    print(f"volumes:\n{after.rstrip()}")
    print(f"term: {term_before} -> {term_after}")

    wrong = []
    if failed:
        wrong.append(f"{len(failed)} sends failed")
    if missing:
        wrong.append(f"{len(missing)} acknowledged messages were not received")
    # A failed send may have been stored; without one the numbers are the same.
    if not len(acknowledged) <= stored <= len(sent):
        wrong.append(f"{stored} messages are stored of {len(acknowledged)} acknowledged sends")
    if before != after:
        wrong.append(f"volumes changed:\n{before}became\n{after}")
    if term_after <= term_before:
        wrong.append("leadership never moved")
    for member in members:
        if member["role"] not in ("leader", "follower") or member["membership"] != "voter":
            wrong.append(f"node {member['node_id']} is a {member['role']}, {member['membership']}")
        if member["trouble"]:
            wrong.append(f"node {member['node_id']}: {member['trouble']}")
    for text in wrong:
        print(f"WRONG: {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
