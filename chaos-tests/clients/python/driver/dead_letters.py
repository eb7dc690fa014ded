"""Reads the dead-letter topic of a group, as an ordinary topic."""

import time

from arrivals import ARRIVAL_SECONDS, INVISIBLE_SECONDS
from exchange import RECEIVE_BATCH, expect


def expect_dead_letter(clients, group, message_id):
    """Fails unless the message comes from there."""
    consumer = clients.simple_consumer(f"{group}-reader", f"%DLQ%{group}")
    message = receive_when_it_exists(consumer)
    consumer.ack(message)
    expect(message.message_id == message_id, f"another dead letter: {message}")


def receive_when_it_exists(consumer):
    """The topic is made with its first message. Until then a consumer starts, and can not receive."""
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while True:
        try:
            for message in consumer.receive(RECEIVE_BATCH, INVISIBLE_SECONDS):
                return message
        except Exception:  # The client raises the bare class here.
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        expect(time.monotonic() < deadline, "no dead letter")
