"""The checks of lite topics. A body is `<lite topic>-<number>`."""

import time

from rocketmq.v5.exception import (
    BadRequestException,
    IllegalStateException,
    LiteSubscriptionQuotaExceededException,
    LiteTopicQuotaExceededException,
)

from arrivals import ARRIVAL_SECONDS, INVISIBLE_SECONDS, Arrivals
from clients import new_message
from dead_letters import expect_dead_letter
from exchange import expect, receive_one

LITE_TOPICS = ("red", "green", "blue")
EACH = 8
# How long what must not come gets to show up.
QUIET_SECONDS = 5
# Well before red-0 becomes visible again.
UNBLOCKED_SECONDS = 8
# For the server's settings to arrive.
READY_SECONDS = 10
# The client tells the server all its subscriptions every 30 s.
SYNCED_SECONDS = 33
NAME_LENGTH_MAX = 64
ILLEGAL_LITE_TOPIC = 40020
LITE_TOPIC_QUOTA_EXCEEDED = 42901
LITE_SUBSCRIPTION_QUOTA_EXCEEDED = 42902


def lite_push(clients, topic, group):
    """Of three lite topics it gets the two that it subscribed to."""
    came = Arrivals()
    misnamed = []

    def note(message):
        body = came.add(message).body
        if not body.startswith(f"{message.lite_topic}-"):
            misnamed.append(body)

    consumer = clients.lite_push_consumer(group, topic, note)
    subscribe(consumer, "red", "green")
    send_in_turn(clients, topic)
    came.wait(2 * EACH)
    time.sleep(QUIET_SECONDS)
    expect(not misnamed, f"came with another lite topic: {misnamed}")
    expect_order(came.bodies, "red", "green")
    return f"{2 * EACH} of {len(LITE_TOPICS) * EACH} came, in order in each lite topic"


def lite_subscriptions(clients, topic, group):
    """Subscriptions come and go while the consumer runs."""
    producer = clients.producer(topic)
    send(producer, topic, "red", 0)
    came = Arrivals()
    consumer = clients.lite_push_consumer(group, topic, came.add)
    subscribe(consumer, "red")
    came.wait(1)
    # Nothing was ever sent there.
    subscribe(consumer, "green")
    send(producer, topic, "green", 0)
    came.wait(2)
    consumer.unsubscribe_lite("red")
    send(producer, topic, "red", 1)
    send(producer, topic, "green", 1)
    came.wait(3)
    time.sleep(QUIET_SECONDS)
    expected = ["red-0", "green-0", "green-1", "red-1"]
    expect(came.bodies == expected[:3], f"without a subscription to red came {came.bodies}")
    subscribe(consumer, "red")
    came.wait(4)
    expect(came.bodies == expected, f"came as {came.bodies}")
    return "what was sent without a subscriber came with the subscription"


def lite_members(clients, topic, group):
    """Each of two members has a lite topic of its own, and both have a third one."""
    everything = Arrivals()
    own = {"red": Arrivals(), "green": Arrivals()}
    for lite_topic, came in own.items():

        def note(message, came=came):
            came.add(message)
            everything.add(message)

        subscribe(clients.lite_push_consumer(group, topic, note), lite_topic, "blue")
    send_in_turn(clients, topic)
    everything.wait(len(LITE_TOPICS) * EACH)
    time.sleep(QUIET_SECONDS)
    expect_order(everything.bodies, *LITE_TOPICS)
    shared = []
    for lite_topic, came in own.items():
        owned = [body for body in came.bodies if not body.startswith("blue-")]
        expect_order(owned, lite_topic)
        shared.append(len(came.bodies) - len(owned))
    return f"each got its own; of the shared lite topic they got {shared}"


def lite_dead_letter(clients, topic, group):
    """The listener fails for red-0. Meanwhile another lite topic goes on; the later red messages
    come after its last attempt."""
    came = Arrivals()

    def fail_for_poison(message):
        if came.add(message).body == "red-0":
            raise Poisoned

    subscribe(clients.lite_push_consumer(group, topic, fail_for_poison), "red", "green")
    producer = clients.producer(topic)
    poison_id = send(producer, topic, "red", 0)
    came.wait(1)
    for lite_topic, number in (("green", 0), ("red", 1), ("red", 2)):
        send(producer, topic, lite_topic, number)
    expected = ["red-0", "green-0", "red-0", "red-0", "red-1", "red-2"]
    came.wait(len(expected))
    # The client does not count its local attempts in the message.
    expect(came.bodies == expected, f"came as {came.bodies}")
    expect_dead_letter(clients, group, poison_id)
    return "3 attempts, then the dead-letter topic and the rest of its lite topic"


class Poisoned(Exception):
    """What the listener fails with."""


def lite_simple(clients, topic, group):
    """red-0 is not acked: green goes on, and red comes again, in order."""
    consumer = clients.lite_simple_consumer(group, topic)
    subscribe_when_ready(consumer, "red")
    subscribe(consumer, "green")
    producer = clients.producer(topic)
    red_id = send(producer, topic, "red", 0)
    receive_one(consumer, red_id, ARRIVAL_SECONDS, INVISIBLE_SECONDS)
    out = time.monotonic()
    for lite_topic, number in (("red", 1), ("green", 0), ("blue", 0), ("green", 1)):
        send(producer, topic, lite_topic, number)
    came = Arrivals()
    came.receive(consumer, 2)
    unblocked = time.monotonic() - out
    expect(came.bodies == ["green-0", "green-1"], f"while red-0 was out came {came.bodies}")
    expect(unblocked < UNBLOCKED_SECONDS, f"green took {unblocked:.1f} s")
    came.receive(consumer, 4)
    expected = ["green-0", "green-1", "red-0", "red-1"]
    expect(came.bodies == expected, f"came as {came.bodies}")
    expect(came.attempts == [1, 1, 2, 1], f"attempts {came.attempts}")
    return f"green came within {unblocked:.1f} s, then red in order, red-0 as attempt 2"


def lite_quota(clients, topic, group):
    """A member of this group may have two subscriptions."""
    consumer = clients.lite_push_consumer(group, topic, lambda _: None)
    # Of one character: longer names would count as several (see subscribe).
    subscribe(consumer, "r", "g")
    try:
        consumer.subscribe_lite("b")
        raise AssertionError("subscribed to a third lite topic")
    except LiteSubscriptionQuotaExceededException as error:
        expect(error.code == LITE_SUBSCRIPTION_QUOTA_EXCEEDED, f"refused with {error.code}")
    consumer.unsubscribe_lite("r")
    subscribe(consumer, "b")
    return "the third was refused by the client, until there was one less"


def lite_topic_quota(clients, topic, _group):
    """This topic may have two lite topics."""
    producer = clients.producer(topic)
    send(producer, topic, "red", 0)
    send(producer, topic, "green", 0)
    try:
        send(producer, topic, "blue", 0)
        raise AssertionError("made a third lite topic")
    except LiteTopicQuotaExceededException as error:
        expect(error.code == LITE_TOPIC_QUOTA_EXCEEDED, f"refused with {error.code}")
    send(producer, topic, "red", 1)
    return "the third was refused, the others go on"


def lite_exclusive(clients, topic, group):
    """In this group a lite topic belongs to the member that subscribed to it last."""
    of_one, of_two = Arrivals(), Arrivals()
    one = clients.lite_push_consumer(group, topic, of_one.add)
    two = clients.lite_push_consumer(group, topic, of_two.add)
    # Of one character: longer names would not be taken from another member (see subscribe).
    subscribe(one, "r", "g")
    producer = clients.producer(topic)
    send(producer, topic, "r", 0)
    of_one.wait(1)
    subscribe(two, "r")
    send(producer, topic, "r", 1)
    of_two.wait(1)
    # The client does not heed that it is told, and asks for "r" again with that.
    time.sleep(SYNCED_SECONDS)
    send(producer, topic, "r", 2)
    send(producer, topic, "g", 0)
    of_one.wait(2)
    of_two.wait(2)
    expect(of_one.bodies == ["r-0", "g-0"], f"to the former owner came {of_one.bodies}")
    expect(of_two.bodies == ["r-1", "r-2"], f"to the owner came {of_two.bodies}")
    return "the former owner did not get it back, and kept the other lite topic"


def lite_illegal_name(clients, topic, group):
    """Blank names do not get out of the client, and long ones only with a message."""
    producer = clients.producer(topic)
    longest = "x" * NAME_LENGTH_MAX
    send(producer, topic, longest, 0)
    too_long = f"{longest}x"
    try:
        send(producer, topic, too_long, 0)
        raise AssertionError(f"took a lite topic of {len(too_long)} characters")
    except BadRequestException as error:
        expect(error.code == ILLEGAL_LITE_TOPIC, f"refused with {error.code}")
    consumer = clients.lite_push_consumer(group, topic, lambda _: None)
    for name in (too_long, ""):
        try:
            consumer.subscribe_lite(name)
            raise AssertionError(f"subscribed to {name!r}")
        except IllegalStateException:
            # By the client, with the length from the server's settings.
            pass
    return "the longest legal name passed, longer and blank ones were refused"


def subscribe(consumer, *lite_topics):
    """The client's request to add a subscription has the characters of the name, each as a lite
    topic. That to have all, which it sends every 30 s, is right."""
    for lite_topic in lite_topics:
        consumer.subscribe_lite(lite_topic)
    consumer.subscribe_lite_all()


def subscribe_when_ready(consumer, lite_topic):
    """A simple consumer does not wait at its start for the server's settings. Until they come, its
    quota is 0."""
    until = time.monotonic() + READY_SECONDS
    while True:
        try:
            subscribe(consumer, lite_topic)
            return
        except LiteSubscriptionQuotaExceededException:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def send_in_turn(clients, topic):
    """Sends to all lite topics in turn."""
    producer = clients.producer(topic)
    for i in range(EACH):
        for lite_topic in LITE_TOPICS:
            send(producer, topic, lite_topic, i)


def send(producer, topic, lite_topic, number):
    """Returns the message id."""
    message = new_message(topic, f"{lite_topic}-{number}")
    message.lite_topic = lite_topic
    return producer.send(message).message_id


def expect_order(bodies, *lite_topics):
    """Fails unless the messages of these lite topics came, once and in order, and no others."""
    expect(len(bodies) == len(lite_topics) * EACH, f"{len(bodies)} came: {bodies}")
    for lite_topic in lite_topics:
        own = [body for body in bodies if body.startswith(f"{lite_topic}-")]
        expect(own == [f"{lite_topic}-{i}" for i in range(EACH)], f"came as {own}")
