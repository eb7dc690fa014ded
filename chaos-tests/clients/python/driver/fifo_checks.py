"""The checks of message groups. A body is `<message group>-<number>`."""

import time
from concurrent.futures import ThreadPoolExecutor

from arrivals import INVISIBLE_SECONDS, Arrivals
from clients import new_message, text
from dead_letters import expect_dead_letter
from exchange import RECEIVE_BATCH, expect

MESSAGE_GROUPS = ("red", "green", "blue")
EACH = 8
# Well before the messages that are held become visible again.
UNBLOCKED_SECONDS = 8


def fifo_order_simple(clients, topic, group):
    """Two consumers share the group; a message is noted before it is acked."""
    send_in_turn(clients, topic, EACH)
    came = Arrivals()
    members = [clients.simple_consumer(group, topic) for _ in range(2)]
    with ThreadPoolExecutor(len(members)) as threads:
        list(threads.map(lambda member: came.receive(member, EACH * len(MESSAGE_GROUPS)), members))
    return expect_order(came.bodies, EACH)


def fifo_order_push(clients, topic, group):
    send_in_turn(clients, topic, EACH)
    came = Arrivals()
    clients.push_consumer(group, topic, came.add)
    came.wait(EACH * len(MESSAGE_GROUPS))
    return expect_order(came.bodies, EACH)


def fifo_blocked(clients, topic, group):
    """Red messages are not acked: green and blue go on, and red comes again, in order."""
    send_in_turn(clients, topic, EACH)
    consumer = clients.simple_consumer(group, topic)
    held, others = hold_red(consumer)
    again = Arrivals()
    again.receive(consumer, EACH)
    expect(again.attempts[0] == 2, f"came again first: {again.all[0]}")
    expect_order(others + again.bodies, EACH)
    return f"the others came while {held} was out; then red came again in order"


def hold_red(consumer):
    """Acks all but the red messages, until all of the others have come."""
    held, others = [], []
    deadline = time.monotonic() + UNBLOCKED_SECONDS
    while len(others) < EACH * (len(MESSAGE_GROUPS) - 1):
        expect(time.monotonic() < deadline, f"only {others} came while {held} was out")
        red_is_out = bool(held)
        for message in consumer.receive(RECEIVE_BATCH, INVISIBLE_SECONDS):
            if text(message).startswith("red-"):
                expect(not red_is_out, f"{text(message)} came while {held} was out")
                held.append(text(message))
            else:
                others.append(text(message))
                consumer.ack(message)
    return held, others


def fifo_dead_letter(clients, topic, group):
    """The listener fails for red-0: the later red ones come after its last attempt."""
    [poison_id, *_] = send_in_turn(clients, topic, 3)
    came = Arrivals()

    def fail_for_poison(message):
        if came.add(message).body == "red-0":
            raise Poisoned

    clients.push_consumer(group, topic, fail_for_poison)
    came.wait(3 * len(MESSAGE_GROUPS) + 2)
    bodies = came.bodies
    # The client does not count its local retries in the message.
    expect(bodies.count("red-0") == 3, f"came as {bodies}")
    last = len(bodies) - 1 - bodies[::-1].index("red-0")
    expect(last < bodies.index("red-1"), f"red-1 came before the last attempt: {bodies}")
    expect_order(list(dict.fromkeys(bodies)), 3)
    expect_dead_letter(clients, group, poison_id)
    return "3 attempts, then the dead-letter topic and the rest of its group"


class Poisoned(Exception):
    """What the listener fails with."""


def send_in_turn(clients, topic, each):
    """Sends to all message groups in turn; returns the message ids."""
    producer = clients.producer(topic)
    ids = []
    for i in range(each):
        for message_group in MESSAGE_GROUPS:
            message = new_message(topic, f"{message_group}-{i}")
            message.message_group = message_group
            ids.append(producer.send(message).message_id)
    return ids


def expect_order(bodies, each):
    for message_group in MESSAGE_GROUPS:
        own = [body for body in bodies if body.startswith(f"{message_group}-")]
        expect(own == [f"{message_group}-{i}" for i in range(each)], f"came as {own}")
    return f"{each * len(MESSAGE_GROUPS)} in order in each message group"
