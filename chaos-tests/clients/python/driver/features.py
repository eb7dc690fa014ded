"""Runs the checks of message types, filters, retries and lite topics, all at once: they wait most
of the time.

Each has a topic and a group of its own, named after it, and is given both. Clients are not shut
down: the process ends soon, and a push consumer takes 20 s to stop.
"""

import argparse
from concurrent.futures import ThreadPoolExecutor

import delay_checks
import fifo_checks
import filter_checks
import lite_checks
import priority_checks
import retry_checks
import transaction_checks
import type_checks
from clients import Clients
from interop import print_outcome

CHECKS = {
    check.__name__: check
    for check in (
        fifo_checks.fifo_order_simple,
        fifo_checks.fifo_order_push,
        fifo_checks.fifo_blocked,
        fifo_checks.fifo_dead_letter,
        delay_checks.delay,
        delay_checks.recall,
        transaction_checks.transaction,
        transaction_checks.transaction_check,
        filter_checks.sql_filter_simple,
        filter_checks.sql_filter_push,
        filter_checks.sql_malformed,
        retry_checks.retry_backoff,
        type_checks.wrong_type,
        type_checks.mixed,
        priority_checks.priority,
        lite_checks.lite_push,
        lite_checks.lite_subscriptions,
        lite_checks.lite_members,
        lite_checks.lite_dead_letter,
        lite_checks.lite_simple,
        lite_checks.lite_quota,
        lite_checks.lite_topic_quota,
        lite_checks.lite_exclusive,
        lite_checks.lite_illegal_name,
    )
}


def check_names(text):
    """Parses the value of `--only`."""
    names = text.split(",")
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {unknown}, known are {list(CHECKS)}")
    return names


def run(arguments):
    names = arguments.only or list(CHECKS)
    with ThreadPoolExecutor(len(names)) as threads:
        passed = list(threads.map(lambda name: run_check(name, arguments), names))
    return 0 if all(passed) else 1


def run_check(name, arguments):
    suffix = name.replace("_", "-")
    topic, group = f"{arguments.topic}-{suffix}", f"{arguments.group}-{suffix}"
    clients = Clients(arguments.endpoint)
    return print_outcome(name, lambda: CHECKS[name](clients, topic, group))
