"""`produce`: an open loop of sends; every outcome goes to the log."""

import json
import os
import threading
import time

from clients import Clients, new_message
from records import JsonLines, error_text, moment, stop_on_signal

FIRST_SEND_RETRY_SECONDS = 0.5
DRAIN_SECONDS = 60


def run(arguments):
    stop = stop_on_signal()
    with Clients(arguments.endpoint) as clients:
        producer = clients.producer(arguments.topic)
        load = Load(producer, arguments.topic, arguments.log, arguments.concurrency)
        while not stop.is_set() and not load.succeeded():
            load.send()
            load.drain()
            if not load.succeeded():
                stop.wait(FIRST_SEND_RETRY_SECONDS)
        if load.succeeded():
            print("READY", flush=True)
            send_at_rate(load, arguments.rate, arguments.seconds, stop)
        load.drain()
        print(json.dumps(load.summary()), flush=True)
    return 0


def send_at_rate(load, rate, seconds, stop):
    """Sends on schedule, whatever became of the sends before."""
    begin = time.monotonic()
    for i in range(int(rate * seconds)):
        if stop.wait(max(0, begin + i / rate - time.monotonic())):
            return
        load.send()


class Load:
    """Sends messages with increasing numbers and keeps account of the outcomes."""

    def __init__(self, producer, topic, log_path, outstanding_max):
        self._producer = producer
        self._topic = topic
        self._log = JsonLines(log_path)
        self._outstanding_max = outstanding_max
        self._changed = threading.Condition()
        self._sent = 0
        self._ok = 0
        self._failed = 0
        self._last_ok_ms = None
        self._gap_ms_max = 0

    def send(self):
        """Starts one send; waits only while too many are outstanding."""
        with self._changed:
            self._changed.wait_for(lambda: self._outstanding() < self._outstanding_max)
            value = f"P{os.getpid()}-{self._sent}"
            self._sent += 1
        started = moment()
        try:
            future = self._producer.send_async(new_message(self._topic, value))
        except Exception as error:
            self._finish(started, value, ok=False, err=error_text(error))
            return
        future.add_done_callback(lambda done: self._done(started, value, done))

    def drain(self):
        """Waits until no send is outstanding."""
        with self._changed:
            self._changed.wait_for(lambda: self._outstanding() == 0, DRAIN_SECONDS)

    def succeeded(self):
        return self._ok > 0

    def summary(self):
        return {
            "sent": self._sent,
            "ok": self._ok,
            "failed": self._failed,
            "max_gap_ms": self._gap_ms_max,
        }

    def _done(self, started, value, future):
        if error := future.exception():
            self._finish(started, value, ok=False, err=error_text(error))
        else:
            self._finish(started, value, ok=True, id=future.result().message_id)

    def _finish(self, started, value, ok, **outcome):
        with self._changed:
            (started_ms, begin_ns), (ended_ms, end_ns) = started, moment()
            self._log.write(
                t_ms=started_ms,
                end_ms=ended_ms,
                begin_ns=begin_ns,
                end_ns=end_ns,
                v=value,
                ok=ok,
                **outcome,
            )
            if ok:
                self._ok += 1
                gap_ms = ended_ms - (self._last_ok_ms or ended_ms)
                self._gap_ms_max = max(self._gap_ms_max, gap_ms)
                self._last_ok_ms = ended_ms
            else:
                self._failed += 1
            self._changed.notify_all()

    def _outstanding(self):
        return self._sent - self._ok - self._failed
