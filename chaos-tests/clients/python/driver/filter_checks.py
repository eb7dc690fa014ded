"""The checks of SQL92 filters on user properties."""

import time

from rocketmq import FilterExpression
from rocketmq.grpc_protocol import FilterType
from rocketmq.v5.exception import BadRequestException

from arrivals import INVISIBLE_SECONDS, Arrivals
from clients import new_message
from exchange import expect

ILLEGAL_FILTER_EXPRESSION = 40010
QUIET_SECONDS = 3

FILTER = FilterExpression("a > 5 AND b = 'x'", FilterType.SQL)
MATCHING = ["six", "ten"]
# Properties by body.
MESSAGES = {
    "six": {"a": "6", "b": "x"},
    "ten": {"a": "10", "b": "x"},
    "five": {"a": "5", "b": "x"},
    "no-number": {"a": "many", "b": "x"},
    "other-b": {"a": "6", "b": "y"},
    "no-a": {"b": "x"},
    "no-b": {"a": "6"},
}


def sql_filter_simple(clients, topic, group):
    send_messages(clients, topic)
    consumer = clients.filtering_consumer(group, topic, FILTER)
    came = Arrivals()
    came.receive(consumer, len(MATCHING))
    came.receive_for(consumer, QUIET_SECONDS)
    return expect_matching(came)


def sql_filter_push(clients, topic, group):
    send_messages(clients, topic)
    came = Arrivals()
    clients.push_consumer(group, topic, came.add, FILTER)
    came.wait(len(MATCHING))
    time.sleep(QUIET_SECONDS)
    return expect_matching(came)


def sql_malformed(clients, topic, group):
    malformed = FilterExpression("a > 5 AND", FilterType.SQL)
    consumer = clients.filtering_consumer(group, topic, malformed)
    try:
        consumer.receive(1, INVISIBLE_SECONDS)
    except BadRequestException as error:
        expect(error.code == ILLEGAL_FILTER_EXPRESSION, f"unexpected code: {error}")
        return str(error)
    raise AssertionError("a malformed expression was accepted")


def send_messages(clients, topic):
    producer = clients.producer(topic)
    for body, properties in MESSAGES.items():
        message = new_message(topic, body)
        for key, value in properties.items():
            message.add_property(key, value)
        producer.send(message)


def expect_matching(came):
    expect(sorted(came.bodies) == sorted(MATCHING), f"came: {came.bodies}")
    return f"{len(MATCHING)} of {len(MESSAGES)} came"
