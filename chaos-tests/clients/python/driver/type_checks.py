"""The checks of topic types."""

import math
import time

from rocketmq import TransactionResolution

from arrivals import Arrivals
from clients import new_message
from exchange import expect
from transaction_checks import begin

MESSAGE_PROPERTY_CONFLICT_WITH_TYPE = 40014
TYPES = ("normal", "fifo", "delay", "transaction")


def wrong_type(clients, topic, _group):
    """Each topic refuses the three types that it does not have."""
    refused = 0
    for topic_type in TYPES:
        own_topic = f"{topic}-{topic_type}"
        producer = types_producer(clients, own_topic)
        send_of_type(producer, own_topic, topic_type)
        for message_type in TYPES:
            if message_type != topic_type:
                expect_refused(producer, own_topic, message_type)
                refused += 1
    return f"{refused} of {refused} refused"


def mixed(clients, topic, group):
    producer = types_producer(clients, topic)
    consumer = clients.simple_consumer(group, topic)
    for message_type in TYPES:
        send_of_type(producer, topic, message_type)
    came = Arrivals()
    came.receive(consumer, len(TYPES))
    expect(sorted(came.bodies) == sorted(TYPES), f"came: {came.bodies}")
    return "all four came"


def types_producer(clients, topic):
    unknown = TransactionResolution.TRANSACTION_RESOLUTION_UNSPECIFIED
    return clients.transaction_producer(topic, lambda _: unknown)


def send_of_type(producer, topic, message_type):
    """Sends a message of this type; its body is the type."""
    if message_type == "transaction":
        begin(producer, topic, message_type).commit()
        return
    message = new_message(topic, message_type)
    if message_type == "fifo":
        message.message_group = "group"
    elif message_type == "delay":
        message.delivery_timestamp = math.ceil(time.time() + 1)
    producer.send(message)


def expect_refused(producer, topic, message_type):
    """By the client, which has the types from the route, or by the server."""
    try:
        send_of_type(producer, topic, message_type)
    except Exception as error:  # The client's own is of another class than the server's.
        code = getattr(error, "code", None)
        by_client = "not match with queue accept message types" in str(error)
        expect(code == MESSAGE_PROPERTY_CONFLICT_WITH_TYPE or by_client, f"unexpected: {error}")
        return
    raise AssertionError(f"{topic} took a message of type {message_type}")
