"""The checks of message groups. A body is `<message group>-<number>`."""

import time
from concurrent.futures import ThreadPoolExecutor

from arrivals import ARRIVAL_SECONDS, INVISIBLE_SECONDS, Arrivals
from clients import new_message
from dead_letters import expect_dead_letter
from exchange import expect, receive_one

MESSAGE_GROUPS = ("red", "green", "blue")
EACH = 8
# Well before red-0 becomes visible again.
UNBLOCKED_SECONDS = 8


def fifo_order_simple(clients, topic, group):
    """Two consumers share the group; a message is noted before it is acked."""
    send_in_turn(clients, topic)
    came = Arrivals()
    members = [clients.simple_consumer(group, topic) for _ in range(2)]
    with ThreadPoolExecutor(len(members)) as threads:
        list(threads.map(lambda member: came.receive(member, EACH * len(MESSAGE_GROUPS)), members))
    return expect_order(came.bodies)


def fifo_order_push(clients, topic, group):
    send_in_turn(clients, topic)
    came = Arrivals()
    clients.push_consumer(group, topic, came.add)
    came.wait(EACH * len(MESSAGE_GROUPS))
    return expect_order(came.bodies)


def fifo_blocked(clients, topic, group):
    """red-0 is not acked: green and blue go on, and red comes again, in order."""
    producer = clients.producer(topic)
    consumer = clients.simple_consumer(group, topic)
    red_id = send(producer, topic, "red", 0)
    receive_one(consumer, red_id, ARRIVAL_SECONDS, INVISIBLE_SECONDS)
    out = time.monotonic()
    for i in range(EACH):
        for message_group in MESSAGE_GROUPS:
            if (message_group, i) != ("red", 0):
                send(producer, topic, message_group, i)
    came = Arrivals()
    came.receive(consumer, EACH * (len(MESSAGE_GROUPS) - 1))
    unblocked = time.monotonic() - out
    red = [body for body in came.bodies if body.startswith("red-")]
    expect(not red, f"{red} came while red-0 was out")
    expect(unblocked < UNBLOCKED_SECONDS, f"the others took {unblocked:.1f} s")
    came.receive(consumer, EACH * len(MESSAGE_GROUPS))
    again = next(arrival for arrival in came.all if arrival.body.startswith("red-"))
    expect((again.body, again.attempt) == ("red-0", 2), f"came again first: {again}")
    expect_order(came.bodies)
    return f"the others came within {unblocked:.1f} s, then red in order, red-0 as attempt 2"


def fifo_dead_letter(clients, topic, group):
    """The listener fails for red-0. Meanwhile the other message groups go on; the later red
    messages come after its last attempt."""
    came = Arrivals()

    def fail_for_poison(message):
        if came.add(message).body == "red-0":
            raise Poisoned

    clients.push_consumer(group, topic, fail_for_poison)
    producer = clients.producer(topic)
    poison_id = send(producer, topic, "red", 0)
    came.wait(1)
    for message_group, number in (("green", 0), ("red", 1), ("red", 2)):
        send(producer, topic, message_group, number)
    expected = ["red-0", "green-0", "red-0", "red-0", "red-1", "red-2"]
    came.wait(len(expected))
    # The client does not count its local attempts in the message.
    expect(came.bodies == expected, f"came as {came.bodies}")
    expect_dead_letter(clients, group, poison_id)
    return "3 attempts, then the dead-letter topic and the rest of its group"


class Poisoned(Exception):
    """What the listener fails with."""


def send_in_turn(clients, topic):
    """Sends to all message groups in turn."""
    producer = clients.producer(topic)
    for i in range(EACH):
        for message_group in MESSAGE_GROUPS:
            send(producer, topic, message_group, i)


def send(producer, topic, message_group, number):
    """Returns the message id."""
    message = new_message(topic, f"{message_group}-{number}")
    message.message_group = message_group
    return producer.send(message).message_id


def expect_order(bodies):
    for message_group in MESSAGE_GROUPS:
        own = [body for body in bodies if body.startswith(f"{message_group}-")]
        expect(own == [f"{message_group}-{i}" for i in range(EACH)], f"came as {own}")
    return f"{EACH * len(MESSAGE_GROUPS)} in order in each message group"
