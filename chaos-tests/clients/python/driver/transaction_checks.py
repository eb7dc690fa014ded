"""The checks of transactional messages."""

import threading
from collections import Counter

from rocketmq import TransactionResolution

from arrivals import Arrivals
from clients import new_message, text
from exchange import expect

UNKNOWN = TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED
# Several check-backs would have come by then.
QUIET_SECONDS = 4


def transaction(clients, topic, group):
    asked = []

    def check(message):
        asked.append(text(message))
        return UNKNOWN

    producer = clients.transaction_producer(topic, check)
    consumer = clients.simple_consumer(group, topic)
    begin(producer, topic, "committed").commit()
    begin(producer, topic, "rolled-back").rollback()
    came = Arrivals()
    came.receive(consumer, 1)
    came.receive_for(consumer, QUIET_SECONDS)
    expect(came.bodies == ["committed"], f"came: {came.bodies}")
    expect(not asked, f"asked about ended transactions: {asked}")
    return "only the committed one came, and nobody asked"


def transaction_check(clients, topic, group):
    """No transaction is ended here: the server asks. About one it must ask twice."""
    asked = Counter()
    lock = threading.Lock()

    def check(message):
        body = text(message)
        with lock:
            asked[body] += 1
        if body == "commit" or (body == "unknown" and asked[body] > 1):
            return TransactionResolution.COMMIT
        return TransactionResolution.ROLLBACK if body == "rollback" else UNKNOWN

    producer = clients.transaction_producer(topic, check)
    consumer = clients.simple_consumer(group, topic)
    for body in ("commit", "rollback", "unknown"):
        begin(producer, topic, body)
    came = Arrivals()
    came.receive(consumer, 2)
    came.receive_for(consumer, QUIET_SECONDS)
    expect(sorted(came.bodies) == ["commit", "unknown"], f"came: {came.bodies}")
    expect(len(asked) == 3 and asked["unknown"] >= 2, f"asked {dict(asked)}")
    return f"asked {dict(asked)}; committed ones came"


def begin(producer, topic, body):
    """Sends a half message; returns its transaction."""
    transaction = producer.begin_transaction()
    producer.send(new_message(topic, body), transaction)
    return transaction
