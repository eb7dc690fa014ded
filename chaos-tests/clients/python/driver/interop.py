"""Runs the checks in order and prints one JSON line for each."""

import argparse
import json
import sys

from checks import CHECKS, Skipped
from clients import Clients


def check_names(text):
    """Parses the value of `--only`."""
    names = text.split(",")
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {unknown}, known are {list(CHECKS)}")
    return names


def run(arguments):
    names = arguments.only or list(CHECKS)
    passed = [run_check(name, arguments) for name in CHECKS if name in names]
    return 0 if all(passed) else 1


def run_check(name, arguments):
    def check():
        with Clients(arguments.endpoint) as clients:
            return CHECKS[name](arguments, clients)

    return print_outcome(name, check)


def print_outcome(name, check):
    """Runs a check, prints its line and returns whether it is ok."""
    outcome = {"check": name, "ok": True}
    try:
        outcome["detail"] = check()
    except Skipped as reason:
        outcome.update(skipped=True, detail=str(reason))
    except Exception as error:  # Whatever a client raises is the check's result.
        outcome.update(ok=False, detail=f"{type(error).__name__}: {error}")
    # In one piece: checks may run at the same time.
    sys.stdout.write(json.dumps(outcome) + "\n")
    sys.stdout.flush()
    return outcome["ok"]
