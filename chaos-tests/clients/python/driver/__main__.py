"""Command line of the Python driver: `interop`, `features`, `produce` and `consume`."""

import argparse
import os
import sys

import consume
import features
import interop
import produce


def parse():
    parser = argparse.ArgumentParser(prog="driver", description=__doc__)
    verbs = parser.add_subparsers(required=True)

    verb = verbs.add_parser("interop", help="check the API once, one JSON line per check")
    verb.set_defaults(run=interop.run)
    for name in ("endpoint", "topic", "topic2", "group", "group2"):
        verb.add_argument(f"--{name}", required=True)
    verb.add_argument("--count", type=int, default=10_000, help="messages of the check 'bulk'")
    verb.add_argument("--only", type=interop.check_names, default=None, help="name,name")

    verb = verbs.add_parser("features", help="check message types, filters and retries likewise")
    verb.set_defaults(run=features.run)
    for name in ("endpoint", "topic", "group"):
        verb.add_argument(f"--{name}", required=True)
    verb.add_argument("--only", type=features.check_names, default=None, help="name,name")

    verb = verbs.add_parser("produce", help="send at a fixed rate and log every outcome")
    verb.set_defaults(run=produce.run)
    for name in ("endpoint", "topic", "log"):
        verb.add_argument(f"--{name}", required=True)
    verb.add_argument("--rate", type=float, required=True, help="sends per second")
    verb.add_argument("--seconds", type=float, required=True)
    verb.add_argument("--concurrency", type=int, default=1024, help="most sends outstanding")

    verb = verbs.add_parser("consume", help="receive, acknowledge and log until SIGTERM")
    verb.set_defaults(run=consume.run)
    for name in ("endpoint", "topic", "group", "log"):
        verb.add_argument(f"--{name}", required=True)
    verb.add_argument("--mode", choices=("push", "simple"), required=True)

    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    exit_code = arguments.run(arguments)
    sys.stdout.flush()
    # Threads of the client that still wait for a dead broker must not hold up the exit.
    os._exit(exit_code)
