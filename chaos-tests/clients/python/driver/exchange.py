"""Sending sets of messages and collecting them again: the common part of the checks."""

import threading
import time
from collections import Counter

from clients import new_message, text

RECEIVE_BATCH = 16
INVISIBLE_SECONDS = 30
SEND_TIMEOUT_SECONDS = 30


def send_all(producer, topic, bodies):
    """Sends one after the other; returns the message ids."""
    return [producer.send(new_message(topic, body)).message_id for body in bodies]


def send_concurrently(producer, topic, bodies, outstanding_max):
    """Sends with up to `outstanding_max` sends under way; returns the message ids."""
    window = threading.Semaphore(outstanding_max)
    futures = []
    for body in bodies:
        window.acquire()
        future = producer.send_async(new_message(topic, body))
        future.add_done_callback(lambda _: window.release())
        futures.append(future)
    return [future.result(SEND_TIMEOUT_SECONDS).message_id for future in futures]


def receive_and_ack(consumer, invisible_seconds=INVISIBLE_SECONDS, batch=RECEIVE_BATCH):
    """One receive; acknowledges and returns what it brought."""
    messages = consumer.receive(batch, invisible_seconds)
    for message in messages:
        consumer.ack(message)
    return messages


def collect(consumer, wanted, seconds, **receive):
    """Receives and acks until every wanted body was seen; returns how often each was."""
    seen = Counter()
    deadline = time.monotonic() + seconds
    while not wanted <= seen.keys() and time.monotonic() < deadline:
        seen.update(wanted.intersection(map(text, receive_and_ack(consumer, **receive))))
    return seen


def watch(consumer, wanted, seconds, **receive):
    """Receives and acks for the whole time; returns how often each wanted body was seen."""
    seen = Counter()
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        seen.update(wanted.intersection(map(text, receive_and_ack(consumer, **receive))))
    return seen


def receive_one(consumer, message_id, seconds, invisible_seconds):
    """Receives until the message with this id comes and returns it without an ack."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for message in consumer.receive(RECEIVE_BATCH, invisible_seconds):
            if message.message_id == message_id:
                return message
            consumer.ack(message)
    raise TimeoutError(f"message {message_id} not received within {seconds} s")


class Inbox:
    """Counts the bodies that a push consumer's listener is given."""

    def __init__(self, wanted):
        self._wanted = wanted
        self._lock = threading.Lock()
        self._complete = threading.Event()
        self.seen = Counter()

    def put(self, message):
        with self._lock:
            self.seen[text(message)] += 1
            if self._wanted <= self.seen.keys():
                self._complete.set()

    def wait(self, seconds):
        self._complete.wait(seconds)


def expect(condition, otherwise):
    if not condition:
        raise AssertionError(otherwise)


def expect_each_once(wanted, seen):
    lost = wanted - seen.keys()
    repeated = {body: times for body, times in seen.items() if times > 1}
    expect(not lost, f"{len(lost)} of {len(wanted)} not received, such as {sorted(lost)[:3]}")
    expect(not repeated, f"received more than once: {dict(list(repeated.items())[:3])}")
