"""The official client's objects, made the same way everywhere in this driver."""

from contextlib import ExitStack

from rocketmq import (
    ClientConfiguration,
    ConsumeResult,
    Credentials,
    FilterExpression,
    LitePushConsumer,
    LiteSimpleConsumer,
    Message,
    MessageListener,
    Producer,
    PushConsumer,
    SimpleConsumer,
    TransactionChecker,
)

# Long poll of a simple consumer. Shorter than the client's 20 s, so that a check that waits for
# "nothing more" ends soon; brokers may refuse polls under 5 s.
AWAIT_SECONDS = 5


class Clients(ExitStack):
    """Starts clients; closing it, or leaving its `with` block, shuts all of them down."""

    def __init__(self, endpoint):
        super().__init__()
        self._endpoint = endpoint

    def producer(self, *topics):
        return self._start(Producer(self._configuration(), topics))

    def transaction_producer(self, topic, check):
        """Can send transactional messages too, about which the server may ask `check`."""
        return self._start(Producer(self._configuration(), [topic], Checker(check)))

    def simple_consumer(self, group, topic, tags="*"):
        return self.filtering_consumer(group, topic, FilterExpression(tags))

    def filtering_consumer(self, group, topic, expression):
        return self._start(
            SimpleConsumer(self._configuration(), group, {topic: expression}, AWAIT_SECONDS)
        )

    def push_consumer(self, group, topic, on_message, expression=None):
        subscription = {topic: expression or FilterExpression()}
        return self._start(
            PushConsumer(self._configuration(), group, Listener(on_message), subscription)
        )

    def lite_push_consumer(self, group, topic, on_message):
        """Gets nothing until it subscribes to lite topics of the topic."""
        return self._start(
            LitePushConsumer(self._configuration(), group, topic, Listener(on_message))
        )

    def lite_simple_consumer(self, group, topic):
        return self._start(
            LiteSimpleConsumer(topic, self._configuration(), group, AWAIT_SECONDS)
        )

    def _configuration(self):
        return ClientConfiguration(self._endpoint, Credentials())

    def _start(self, client):
        client.startup()
        self.callback(client.shutdown)
        return client


class Checker(TransactionChecker):
    """Answers the server's questions with what a function of the message returns."""

    def __init__(self, check):
        self._check = check

    def check(self, message):
        return self._check(message)


class Listener(MessageListener):
    """Hands each message to a function and reports success; an exception means failure."""

    def __init__(self, on_message):
        self._on_message = on_message

    def consume(self, message):
        self._on_message(message)
        return ConsumeResult.SUCCESS


def new_message(topic, body):
    message = Message()
    message.topic = topic
    message.body = body.encode() if isinstance(body, str) else body
    return message


def text(message):
    return message.body.decode()
