"""The check of priorities."""

import time

from arrivals import ARRIVAL_SECONDS, INVISIBLE_SECONDS
from clients import new_message
from exchange import expect

PRIORITIES = 3
MESSAGES = 12
# Smaller than the messages of one priority, so that more than one receive is needed.
BATCH = 3


def priority(clients, topic, group):
    """Out of a backlog, higher ones come first."""
    producer = clients.producer(topic)
    for i in range(MESSAGES):
        message = new_message(topic, f"message-{i}")
        message.priority = 1 + i % PRIORITIES
        producer.send(message)
    consumer = clients.simple_consumer(group, topic)
    received = []
    deadline = time.monotonic() + ARRIVAL_SECONDS
    while len(received) < MESSAGES:
        expect(time.monotonic() < deadline, f"only {received} came")
        for message in consumer.receive(BATCH, INVISIBLE_SECONDS):
            received.append(message.priority)
            consumer.ack(message)
    expect(received == sorted(received, reverse=True), f"came as {received}")
    return f"came as {received}"
