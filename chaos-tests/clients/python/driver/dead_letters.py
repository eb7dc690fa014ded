"""Reads the dead-letter topic of a group, as an ordinary topic."""

import time

from arrivals import ARRIVAL_SECONDS, INVISIBLE_SECONDS
from exchange import receive_one


def expect_dead_letter(clients, group, message_id):
    """Fails unless the message comes from there."""
    consumer = start_when_it_exists(clients, f"{group}-reader", f"%DLQ%{group}")
    consumer.ack(receive_one(consumer, message_id, ARRIVAL_SECONDS, INVISIBLE_SECONDS))


def start_when_it_exists(clients, group, topic):
    """The topic is made with its first message."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while True:
        try:
            return clients.simple_consumer(group, topic)
        except Exception:  # The client raises the bare class here.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
