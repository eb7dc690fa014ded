package raftmq.driver;

import java.time.Duration;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.java.message.MessageViewImpl;

/** The checks of messages that are received and not acked. */
final class InvisibilityChecks {
    private static final int INVALID_RECEIPT_HANDLE = 40013;
    private static final Duration LONG = Duration.ofSeconds(30);
    /** Our clock starts when the reply has come, the server's before it was sent. */
    private static final long EARLIEST_MS = Receiving.SHORT.toMillis() - 2_000;
    /** Apache RocketMQ itself comes up to 6 s late. */
    private static final long LATEST_MS = Receiving.SHORT.toMillis() + 12_000;

    private final Fixture fixture;

    InvisibilityChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    String redelivery() throws Exception {
        String topic = fixture.topic("redeliver");
        String id = fixture.send(topic, "redelivery");
        try (SimpleConsumer consumer =
            fixture.clients.simpleConsumer(fixture.group("redeliver"), topic)) {
            MessageView first = expect(Receiving.one(consumer, Receiving.SHORT), id, 1);
            long start = System.nanoTime();
            MessageView second = expect(Receiving.one(consumer, Receiving.SHORT), id, 2);
            long elapsed = expectElapsed(start);
            expectEqualBodies(first, second);
            consumer.ack(second);
            return "came again after " + elapsed + " ms as attempt 2";
        }
    }

    String changeInvisible() throws Exception {
        String topic = fixture.topic("invisible");
        String id = fixture.send(topic, "change_invisible");
        try (SimpleConsumer consumer =
            fixture.clients.simpleConsumer(fixture.group("invisible"), topic)) {
            MessageView first = expect(Receiving.one(consumer, LONG), id, 1);
            String oldHandle = handle(first);
            consumer.changeInvisibleDuration(first, Receiving.SHORT);
            long start = System.nanoTime();
            CheckFailed.unless(!handle(first).equals(oldHandle),
                "the receipt handle stayed the same");
            expectRefused(consumer, first, oldHandle);
            MessageView second = expect(Receiving.one(consumer, Receiving.SHORT), id, 2);
            long elapsed = expectElapsed(start);
            consumer.ack(second);
            return "came again after " + elapsed
                + " ms; ack with the replaced handle: INVALID_RECEIPT_HANDLE";
        }
    }

    /** The public interface hides the handle, but the class behind it is public. */
    private static String handle(MessageView message) {
        return ((MessageViewImpl) message).getReceiptHandle();
    }

    private static void expectRefused(SimpleConsumer consumer, MessageView message, String handle)
        throws CheckFailed {
        ((MessageViewImpl) message).setReceiptHandle(handle);
        try {
            consumer.ack(message);
        } catch (ClientException e) {
            CheckFailed.unless(Failures.code(e) == INVALID_RECEIPT_HANDLE,
                "ack with a replaced receipt handle: " + Failures.describe(e));
            return;
        }
        throw new CheckFailed("ack with a replaced receipt handle was accepted");
    }

    private static MessageView expect(MessageView message, String id, int attempt)
        throws CheckFailed {
        CheckFailed.unless(message.getMessageId().toString().equals(id),
            "received " + message.getMessageId() + ", sent " + id);
        CheckFailed.unless(message.getDeliveryAttempt() == attempt,
            "attempt " + message.getDeliveryAttempt() + " instead of " + attempt);
        return message;
    }

    private static long expectElapsed(long startNanos) throws CheckFailed {
        long elapsed = Duration.ofNanos(System.nanoTime() - startNanos).toMillis();
        CheckFailed.unless(elapsed >= EARLIEST_MS && elapsed <= LATEST_MS,
            "came again after " + elapsed + " ms");
        return elapsed;
    }

    private static void expectEqualBodies(MessageView first, MessageView second)
        throws CheckFailed {
        CheckFailed.unless(first.getBody().equals(second.getBody()),
            "the body is " + Clients.text(second) + ", was " + Clients.text(first));
    }
}
