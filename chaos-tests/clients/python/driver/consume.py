"""`consume`: receives, acknowledges and logs until SIGTERM or the end of standard input.

Errors are counted and never end it, since the point is that a consumer goes on by itself.
"""

import sys
import threading
import time

from rocketmq.v5.exception import BadRequestException

from clients import Clients, text
from records import JsonLines, error_text, now_ms, stop_on_signal

RECEIVERS = 4
RECEIVE_BATCH = 16
RETRY_SECONDS = 0.5

# Acks are tried again for as long as the receipt handle can be valid.
INVISIBLE_SECONDS = 15
SHUTDOWN_SECONDS = 10


def run(arguments):
    stop = stop_on_signal()
    threading.Thread(target=stop_at_end_of_input, args=(stop,), daemon=True).start()
    journal = Journal(arguments.log)
    clients = Clients(arguments.endpoint)
    consume = {"push": consume_push, "simple": consume_simple}[arguments.mode]
    consume(arguments, clients, journal, stop)
    # The client's shutdown waits for acks that a dead broker never answers.
    closing = threading.Thread(target=clients.close, daemon=True)
    closing.start()
    closing.join(SHUTDOWN_SECONDS)
    print(f"received {journal.received}, errors {journal.errors}", file=sys.stderr)
    return 0


def stop_at_end_of_input(stop):
    sys.stdin.buffer.read()
    stop.set()


def consume_push(arguments, clients, journal, stop):
    def on_message(message):
        journal.add(message, acked=True, end_ns=time.monotonic_ns())

    subscription = (arguments.group, arguments.topic, on_message)
    start_until_it_works(journal, stop, clients.push_consumer, *subscription)
    stop.wait()


def consume_simple(arguments, clients, journal, stop):
    subscription = (arguments.group, arguments.topic)
    consumer = start_until_it_works(journal, stop, clients.simple_consumer, *subscription)
    receivers = [
        threading.Thread(target=receive_until, args=(stop, consumer, journal), daemon=True)
        for _ in range(RECEIVERS)
    ]
    for receiver in receivers:
        receiver.start()
    stop.wait()
    for receiver in receivers:
        receiver.join(SHUTDOWN_SECONDS)


def start_until_it_works(journal, stop, start, *subscription):
    while not stop.is_set():
        try:
            consumer = start(*subscription)
            print("READY", flush=True)
            return consumer
        except Exception as error:
            journal.error("start", error)
            stop.wait(RETRY_SECONDS)
    return None


def receive_until(stop, consumer, journal):
    while not stop.is_set():
        begin_ns = time.monotonic_ns()
        try:
            messages = consumer.receive(RECEIVE_BATCH, INVISIBLE_SECONDS)
        except Exception as error:
            journal.error("receive", error)
            stop.wait(RETRY_SECONDS)
            continue
        received = {
            "begin_ns": begin_ns,
            "end_ns": time.monotonic_ns(),
            "invisible_ms": INVISIBLE_SECONDS * 1000,
        }
        for message in messages:
            ack(consumer, message, journal, received)


def ack(consumer, message, journal, received):
    """Acks, trying again as push consumers do: a lost answer may hide an ack that counted."""
    begin_ns = time.monotonic_ns()

    def done(**outcome):
        times = {"ack_begin_ns": begin_ns, "ack_end_ns": time.monotonic_ns()}
        journal.add(message, **received, **times, **outcome)

    deadline = time.monotonic() + INVISIBLE_SECONDS
    while True:
        try:
            consumer.ack(message)
            done(acked=True)
            return
        except Exception as error:
            journal.error("ack", error)
            if isinstance(error, BadRequestException) or time.monotonic() > deadline:
                done(acked=False, err=error_text(error))
                return
            time.sleep(RETRY_SECONDS)


class Journal:
    """The log of received messages and the count of errors."""

    def __init__(self, path):
        self._log = JsonLines(path)
        self._lock = threading.Lock()
        self.received = 0
        self.errors = 0

    def add(self, message, acked, **outcome):
        self._log.write(
            t_ms=now_ms(),
            v=text(message),
            id=message.message_id,
            attempt=message.delivery_attempt,
            acked=acked,
            **outcome,
        )
        with self._lock:
            self.received += 1

    def error(self, what, error):
        with self._lock:
            self.errors += 1
        print(f"{what}: {error_text(error)}", file=sys.stderr, flush=True)
