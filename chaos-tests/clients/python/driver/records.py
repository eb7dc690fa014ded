"""What `produce` and `consume` share: the log file, the clock and the signal to stop."""

import json
import signal
import threading
import time

ERROR_TEXT_MAX = 500


class JsonLines:
    """Appends one JSON object per line, flushed line by line, from any thread."""

    def __init__(self, path):
        self._file = open(path, "a", buffering=1, encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, **fields):
        line = json.dumps(fields) + "\n"
        with self._lock:
            self._file.write(line)


def now_ms():
    return time.time_ns() // 1_000_000


def moment():
    """Milliseconds since 1970, and nanoseconds of the monotonic clock that the harness reads too."""
    return now_ms(), time.monotonic_ns()


def error_text(error):
    return f"{type(error).__name__}: {error}"[:ERROR_TEXT_MAX]


def stop_on_signal():
    """Returns an event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
