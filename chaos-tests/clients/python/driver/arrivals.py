"""What arrived, in the order it did: the common part of the checks of features."""

import threading
import time
from collections import namedtuple

from clients import text
from exchange import RECEIVE_BATCH, expect

# Of what must come, on a busy machine.
ARRIVAL_SECONDS = 30
# The shortest invisible duration that brokers have to accept.
INVISIBLE_SECONDS = 10

Arrival = namedtuple("Arrival", "body id attempt at")


class Arrivals:
    """Filled from any thread. `at` is the wall clock's time in seconds."""

    def __init__(self):
        self._changed = threading.Condition()
        self._all = []

    def add(self, message):
        arrival = Arrival(
            text(message), message.message_id, message.delivery_attempt, time.time()
        )
        with self._changed:
            self._all.append(arrival)
            self._changed.notify_all()
        return arrival

    @property
    def all(self):
        with self._changed:
            return list(self._all)

    @property
    def bodies(self):
        return [arrival.body for arrival in self.all]

    @property
    def attempts(self):
        return [arrival.attempt for arrival in self.all]

    def wait(self, count):
        """Waits until so many have come through a listener."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._all) >= count, ARRIVAL_SECONDS)
        self._expect_count(count)

    def receive(self, consumer, count):
        """Receives, notes and acks until so many have come."""
        deadline = time.monotonic() + ARRIVAL_SECONDS
        while len(self.all) < count and time.monotonic() < deadline:
            self._receive_once(consumer)
        self._expect_count(count)

    def receive_for(self, consumer, seconds):
        """The same for the whole time."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._receive_once(consumer)

    def _receive_once(self, consumer):
        for message in consumer.receive(RECEIVE_BATCH, INVISIBLE_SECONDS):
            # Before the ack, after which another consumer may get what comes next.
            self.add(message)
            consumer.ack(message)

    def _expect_count(self, count):
        expect(len(self.all) >= count, f"only {self.bodies} came within {ARRIVAL_SECONDS} s")
