"""The check of the group's retry policy: 3 attempts, 1 s and 2 s apart."""

from arrivals import Arrivals
from clients import new_message
from dead_letters import expect_dead_letter
from exchange import expect

BACKOFF_SECONDS = (1, 2)
LATE_SECONDS_MAX = 3


class Poisoned(Exception):
    """What the listener fails with."""


def retry_backoff(clients, topic, group):
    came = Arrivals()

    def fail(message):
        came.add(message)
        raise Poisoned

    clients.push_consumer(group, topic, fail)
    message_id = clients.producer(topic).send(new_message(topic, "poison")).message_id
    came.wait(len(BACKOFF_SECONDS) + 1)
    expect_dead_letter(clients, group, message_id)
    expect(came.attempts == [1, 2, 3], f"attempts {came.attempts}")
    times = [arrival.at for arrival in came.all]
    gaps = [round(later - earlier, 3) for earlier, later in zip(times, times[1:], strict=False)]
    seen = f"attempts {came.attempts} after {gaps} s, then the dead-letter topic"
    for gap, backoff in zip(gaps, BACKOFF_SECONDS, strict=True):
        expect(backoff <= gap <= backoff + LATE_SECONDS_MAX, seen)
    return seen
