"""The checks of messages with a delivery timestamp, which this client has in whole seconds."""

import math
import time

from rocketmq.v5.exception import ClientException

from arrivals import Arrivals
from clients import new_message
from exchange import expect

DELAY_SECONDS = 4
# The promise is far less; the rest is for a busy machine.
LATE_SECONDS_MAX = 3


def delay(clients, topic, group):
    consumer = clients.simple_consumer(group, topic)
    producer = clients.producer(topic)
    sent = time.time()
    due = math.ceil(sent + DELAY_SECONDS)
    send_at(producer, topic, "future", due)
    send_at(producer, topic, "past", int(sent) - 60)
    came = Arrivals()
    came.receive(consumer, 2)
    expect(came.bodies == ["past", "future"], f"came as {came.bodies}")
    past, late = came.all[0].at - sent, came.all[1].at - due
    seen = f"came {late:.3f} s after its time; from the past after {past:.3f} s"
    expect(past <= LATE_SECONDS_MAX and 0 <= late <= LATE_SECONDS_MAX, seen)
    return seen


def recall(clients, topic, group):
    consumer = clients.simple_consumer(group, topic)
    producer = clients.producer(topic)
    due = math.ceil(time.time() + DELAY_SECONDS)
    recalled = send_at(producer, topic, "recalled", due)
    kept = send_at(producer, topic, "kept", due)
    # Twice: as after an answer that got lost.
    for _ in range(2):
        message_id = producer.recall_message(topic, recalled.recall_handle)
        expect(message_id == recalled.message_id, f"recalled {message_id}")
    came = Arrivals()
    came.receive(consumer, 1)
    time.sleep(1)
    came.receive_for(consumer, 1)
    expect(came.bodies == ["kept"], f"came: {came.bodies}")
    late = refusal(producer, topic, kept)
    return f"only the other one came; recalled after delivery: {late}"


def send_at(producer, topic, body, due):
    """Sends a message that is to be delivered at that second since 1970."""
    message = new_message(topic, body)
    message.delivery_timestamp = due
    return producer.send(message)


def refusal(producer, topic, receipt):
    try:
        message_id = producer.recall_message(topic, receipt.recall_handle)
    except ClientException as error:
        return f"code {error.code}"
    raise AssertionError(f"recalled {message_id!r}, which is not pending any more")
