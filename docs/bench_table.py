"""Turns the JSON lines of docs/bench.sh into docs/performance.md."""

import json
import os
import platform
import statistics
import sys
from pathlib import Path

work = Path(sys.argv[1])


def lines(name):
    return [json.loads(line) for line in (work / f"{name}.json").read_text().splitlines()]


def median(name, key):
    return statistics.median(line[key] for line in lines(name))


def cpu():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


echo = median("echo", "messages_per_s")
disk = lines("disk")
fdatasync_p50 = statistics.median(line["p50_us"] for line in disk)
fdatasync_p99 = statistics.median(line["p99_us"] for line in disk)
idle = lines("idle")[0]

print("# Performance")
print()
print("Written by `make bench`. Rates of one machine mean little on another: look at the ratios, which")
print("compare with ceilings measured in the same run. Bodies of 1 KiB, native generator on the same")
print("cores, TLS off, acknowledged means fsynced on a majority; medians over the rounds, here")
print(f"{len(lines('echo'))}.")
print()
print(f"Machine: {os.cpu_count()} x {cpu()}, Linux {platform.release()}; load at the end")
print(f"{os.getloadavg()[0]:.1f}. A load above zero beside the run itself makes every figure worse.")
print()
print("| what | messages/s | of the echo server | p50 ms | p99 ms |")
print("|---|---|---|---|---|")


def row(title, name):
    rate = median(name, "messages_per_s")
    print(
        f"| {title} | {rate:,.0f} | {100 * rate / echo:.0f} % "
        f"| {median(name, 'p50_us') / 1e3:.1f} | {median(name, 'p99_us') / 1e3:.1f} |"
    )


row("echo server, 256 in flight", "echo")
row("replicated log alone, one node, 3 entries of 85 messages in flight", "store")
row("one node, 256 in flight", "send-1")
row("three nodes, 256 in flight", "send-3")
row("one node, 32 x 32 messages a request", "send-1-batch")
row("three nodes, 32 x 32 messages a request", "send-3-batch")
row("one node, one at a time", "send-1-1")
row("three nodes, one at a time", "send-3-1")
row("one node, receive and acknowledge", "receive-1")
row("three nodes, receive and acknowledge", "receive-3")
print()
print("| mark | wanted | measured |")
print("|---|---|---|")
one = 100 * median("send-1", "messages_per_s") / echo
three = 100 * median("send-3", "messages_per_s") / echo
single = median("send-1-1", "p99_us")
print(f"| one node, of the echo server | at least 40 % | {one:.0f} % |")
print(f"| three nodes on the same cores | at least 25 % | {three:.0f} % |")
print(
    f"| one send at a time, one node, p99 | at most fdatasync p99 + 5 ms = "
    f"{fdatasync_p99 / 1e3 + 5:.1f} ms | {single / 1e3:.1f} ms |"
)
print(f"| three idle nodes in one process | under 200 MiB | {idle['rss_mib']:.0f} MiB |")
print(f"| the same, of one core | under 2 % | {idle['core_percent']:.1f} % |")
print()
print(f"Disk: fdatasync of a 4 KiB append p50 {fdatasync_p50 / 1e3:.2f} ms, p99 {fdatasync_p99 / 1e3:.2f} ms.")
print()
print("Commands: `make bench` (`docs/bench.sh` has each of them); the parts of the commit log by")
print("themselves: `cargo bench -p raftmq-raft-store`.")
