"""Runs the checks in order and prints one JSON line for each."""

import argparse
import json

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
    outcome = {"check": name, "ok": True}
    try:
        with Clients(arguments.endpoint) as clients:
            outcome["detail"] = CHECKS[name](arguments, clients)
    except Skipped as reason:
        outcome.update(skipped=True, detail=str(reason))
    except Exception as error:  # Whatever a client raises is the check's result.
        outcome.update(ok=False, detail=f"{type(error).__name__}: {error}")
    print(json.dumps(outcome), flush=True)
    return outcome["ok"]
