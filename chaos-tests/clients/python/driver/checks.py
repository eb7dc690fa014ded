"""The checks of `interop`, in the order they run. Each returns a sentence on what it saw.

A check raises when it fails, and `Skipped` when the client has no means to do it. Bodies are
unique by check, because several checks share a topic.
"""

import copy
import time
from threading import Thread

from rocketmq.v5.exception import BadRequestException, ClientException

from clients import new_message
from exchange import (
    Inbox,
    collect,
    expect,
    expect_each_once,
    receive_and_ack,
    receive_one,
    send_all,
    send_concurrently,
    watch,
)

INVALID_RECEIPT_HANDLE = 40013
TOPIC_NOT_FOUND = 40402
BODY_BYTES_MAX = 4 * 1024 * 1024

# The shortest invisible duration that brokers have to accept.
INVISIBLE_SECONDS_MIN = 10
RECEIVE_SECONDS = 30
LATE_SECONDS = 3

CHECKS = {}


class Skipped(Exception):
    """The client lacks what the check needs."""


def check(function):
    CHECKS[function.__name__] = function
    return function


@check
def send_sync(arguments, clients):
    receipt = clients.producer(arguments.topic).send(new_message(arguments.topic, "send-sync"))
    expect(receipt.message_id, "no message id")
    return f"message id {receipt.message_id}"


@check
def send_async(arguments, clients):
    bodies = [f"send-async-{i}" for i in range(10)]
    producer = clients.producer(arguments.topic)
    ids = send_concurrently(producer, arguments.topic, bodies, len(bodies))
    expect(len(set(ids)) == len(bodies), f"message ids are not distinct: {ids}")
    return f"{len(ids)} sends under way at once"


@check
def push_consume(arguments, clients):
    topic = f"{arguments.topic}-push"
    wanted = {f"push-{i}" for i in range(20)}
    inbox = Inbox(wanted)
    clients.push_consumer(f"{arguments.group}-push", topic, inbox.put)
    send_all(clients.producer(topic), topic, sorted(wanted))
    inbox.wait(RECEIVE_SECONDS)
    time.sleep(LATE_SECONDS)
    expect_each_once(wanted, inbox.seen)
    return "20 of 20, each once"


@check
def simple_consume_ack(arguments, clients):
    wanted = {f"simple-{i}" for i in range(20)}
    consumer = clients.simple_consumer(arguments.group, arguments.topic)
    send_all(clients.producer(arguments.topic), arguments.topic, sorted(wanted))
    invisible = {"invisible_seconds": INVISIBLE_SECONDS_MIN}
    seen = collect(consumer, wanted, RECEIVE_SECONDS, **invisible)
    seen += watch(consumer, wanted, INVISIBLE_SECONDS_MIN + LATE_SECONDS, **invisible)
    expect_each_once(wanted, seen)
    return "20 of 20 acked, none came again"


@check
def redelivery(arguments, clients):
    topic = f"{arguments.topic}-redeliver"
    consumer = clients.simple_consumer(f"{arguments.group}-redeliver", topic)
    [message_id] = send_all(clients.producer(topic), topic, ["redelivery"])
    first = receive_one(consumer, message_id, RECEIVE_SECONDS, INVISIBLE_SECONDS_MIN)
    received = time.monotonic()
    again = receive_one(consumer, message_id, RECEIVE_SECONDS, INVISIBLE_SECONDS_MIN)
    invisible = time.monotonic() - received
    consumer.ack(again)
    attempts = (first.delivery_attempt, again.delivery_attempt)
    expect(attempts == (1, 2), f"delivery attempts {attempts}")
    expect(invisible > INVISIBLE_SECONDS_MIN - 1, f"came again after {invisible:.1f} s")
    return f"attempt 2 after {invisible:.1f} s, same message id"


@check
def change_invisible(arguments, clients):
    topic = f"{arguments.topic}-invisible"
    consumer = clients.simple_consumer(f"{arguments.group}-invisible", topic)
    [message_id] = send_all(clients.producer(topic), topic, ["change-invisible"])
    message = receive_one(consumer, message_id, RECEIVE_SECONDS, invisible_seconds=30)
    stale = copy.copy(message)
    changed = time.monotonic()
    consumer.change_invisible_duration(message, INVISIBLE_SECONDS_MIN)
    try:
        consumer.ack(stale)
        raise AssertionError("the receipt handle from before the change was accepted")
    except BadRequestException as error:
        expect(error.code == INVALID_RECEIPT_HANDLE, f"stale receipt handle gave {error.code}")
    again = receive_one(consumer, message_id, RECEIVE_SECONDS, invisible_seconds=30)
    invisible = time.monotonic() - changed
    consumer.ack(again)
    expect(
        INVISIBLE_SECONDS_MIN - 1 < invisible < 25,
        f"came again {invisible:.1f} s after a change to {INVISIBLE_SECONDS_MIN} s",
    )
    return f"came again {invisible:.1f} s after the change; stale receipt handle refused"


@check
def tag_filter(arguments, clients):
    topic = f"{arguments.topic}-tag"
    consumer = clients.simple_consumer(f"{arguments.group}-tag", topic, "a || b")
    producer = clients.producer(topic)
    bodies = {tag: {f"tag-{tag}-{i}" for i in range(5)} for tag in "abc"}
    for i in range(5):
        for tag in bodies:
            message = new_message(topic, f"tag-{tag}-{i}")
            message.tag = tag
            producer.send(message)
    wanted = bodies["a"] | bodies["b"]
    everything = wanted | bodies["c"]
    seen = collect(consumer, wanted, RECEIVE_SECONDS)
    seen += watch(consumer, everything, LATE_SECONDS)
    expect(not bodies["c"] & seen.keys(), "received a message that the filter excludes")
    expect_each_once(wanted, seen)
    return "10 of 10 with tag a or b, none with c"


@check
def two_groups(arguments, clients):
    wanted = {f"two-groups-{i}" for i in range(20)}
    groups = (arguments.group, arguments.group2)
    consumers = [clients.simple_consumer(group, arguments.topic2) for group in groups]
    send_all(clients.producer(arguments.topic2), arguments.topic2, sorted(wanted))
    for consumer in consumers:
        expect_each_once(wanted, collect(consumer, wanted, RECEIVE_SECONDS))
    return "each group received 20 of 20"


@check
def shared_group(arguments, clients):
    topic = f"{arguments.topic}-shared"
    wanted = {f"shared-{i}" for i in range(60)}
    consumers = [clients.simple_consumer(f"{arguments.group}-shared", topic) for _ in range(2)]
    send_all(clients.producer(topic), topic, sorted(wanted))
    shares = [Inbox(wanted) for _ in consumers]
    deadline = time.monotonic() + RECEIVE_SECONDS

    def take(consumer, share):
        while len(shares[0].seen) + len(shares[1].seen) < len(wanted):
            if time.monotonic() > deadline:
                return
            # Small batches, so that neither can take everything in one receive.
            for message in receive_and_ack(consumer, batch=4):
                share.put(message)

    threads = [Thread(target=take, args=pair) for pair in zip(consumers, shares, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expect_each_once(wanted, shares[0].seen + shares[1].seen)
    counts = [len(share.seen) for share in shares]
    expect(all(counts), f"one consumer got nothing: {counts}")
    return f"shares {counts[0]} + {counts[1]}, no overlap"


@check
def unknown_topic(arguments, clients):
    producer = clients.producer()
    try:
        producer.send(new_message(f"{arguments.topic}-unknown", "unknown-topic"))
        raise AssertionError("a send to a topic that does not exist succeeded")
    except ClientException as error:
        expect(error.code == TOPIC_NOT_FOUND, f"unexpected code {error.code}: {error}")
        seen = f"code {error.code}"
    except AssertionError:
        raise
    except Exception as error:  # The client raises the bare Exception class here.
        seen = f"refused; the client hides the code behind '{error}'"
    producer.send(new_message(arguments.topic, "after-unknown-topic"))
    return f"{seen}; the producer goes on"


@check
def body_too_large(arguments, clients):
    producer = clients.producer(arguments.topic)
    try:
        producer.send(new_message(arguments.topic, bytes(BODY_BYTES_MAX + 1)))
    except ClientException as error:
        return f"refused by {'the server' if error.code else 'the client itself'}: {error}"
    raise AssertionError("a body of 4 MiB + 1 byte was accepted")


@check
def properties_and_keys(arguments, clients):
    message = new_message(arguments.topic, bytes(range(256)))
    message.tag = "tag-é"
    for key in ("key-1", "key-2"):
        message.keys = key  # The setter adds to the set of keys.
    message.add_property("colour", "dark blue")
    message.add_property("größe", "☃")
    consumer = clients.simple_consumer(arguments.group, arguments.topic)
    message_id = clients.producer(arguments.topic).send(message).message_id
    received = receive_one(consumer, message_id, RECEIVE_SECONDS, invisible_seconds=30)
    consumer.ack(received)
    for field in ("body", "tag", "keys", "properties"):
        sent, got = getattr(message, field), getattr(received, field)
        expect(sent == got, f"{field}: sent {sent!r}, received {got!r}")
    expect(not received.corrupted, "body digest does not match")
    return "tag, keys, properties and body unchanged, same message id"


@check
def bulk(arguments, clients):
    topic = f"{arguments.topic}-bulk"
    wanted = {f"bulk-{i:08d}".ljust(256, ".") for i in range(arguments.count)}
    inbox = Inbox(wanted)
    clients.push_consumer(f"{arguments.group}-bulk", topic, inbox.put)
    producer = clients.producer(topic)
    started = time.monotonic()
    send_concurrently(producer, topic, sorted(wanted), outstanding_max=64)
    sent = time.monotonic()
    inbox.wait(RECEIVE_SECONDS + arguments.count / 100)
    received = time.monotonic()
    time.sleep(LATE_SECONDS)
    expect_each_once(wanted, inbox.seen)
    return (
        f"{len(wanted)} messages, 0 lost, 0 duplicates, "
        f"sent {len(wanted) / (sent - started):.0f}/s, "
        f"sent and received {len(wanted) / (received - started):.0f}/s"
    )
