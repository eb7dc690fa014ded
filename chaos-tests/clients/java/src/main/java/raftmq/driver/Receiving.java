package raftmq.driver;

import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.function.Predicate;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** Steps with simple consumers that several checks take. */
final class Receiving {
    /** The shortest invisible duration that Apache RocketMQ accepts. */
    static final Duration SHORT = Duration.ofSeconds(10);

    static final int BATCH = 16;
    /** A message should come within one long poll; the rest is for a busy machine. */
    private static final Duration PATIENCE = Duration.ofSeconds(60);

    private Receiving() {
    }

    /** Receives and acks everything until {@code count} messages that are {@code wanted} came. */
    static List<MessageView> collect(SimpleConsumer consumer, int count,
        Predicate<MessageView> wanted) throws ClientException, CheckFailed {
        List<MessageView> collected = new ArrayList<>();
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (collected.size() < count) {
            CheckFailed.unless(System.nanoTime() < deadline, "received " + collected.size() + " of "
                + count + " messages within " + PATIENCE.toSeconds() + " s");
            for (MessageView message : consumer.receive(BATCH, SHORT)) {
                consumer.ack(message);
                if (wanted.test(message)) {
                    collected.add(message);
                }
            }
        }
        return collected;
    }

    /** Receives and acks everything for the whole period; fails when an unwanted message comes. */
    static void expectNone(SimpleConsumer consumer, Duration period,
        Predicate<MessageView> unwanted) throws ClientException, CheckFailed {
        long end = System.nanoTime() + period.toNanos();
        while (System.nanoTime() < end) {
            for (MessageView message : consumer.receive(BATCH, SHORT)) {
                consumer.ack(message);
                CheckFailed.unless(!unwanted.test(message), "unexpected message "
                    + Clients.text(message) + ", attempt " + message.getDeliveryAttempt());
            }
        }
    }

    /** Receives one message, without ack. */
    static MessageView one(SimpleConsumer consumer, Duration invisible)
        throws ClientException, CheckFailed {
        long deadline = System.nanoTime() + PATIENCE.toNanos();
        while (System.nanoTime() < deadline) {
            List<MessageView> messages = consumer.receive(1, invisible);
            if (!messages.isEmpty()) {
                return messages.get(0);
            }
        }
        throw new CheckFailed("no message within " + PATIENCE.toSeconds() + " s");
    }

    /** Fails unless the bodies are the expected ones, each once. */
    static void expectEachOnce(List<String> bodies, List<String> expected) throws CheckFailed {
        Set<String> distinct = new HashSet<>(bodies);
        CheckFailed.unless(distinct.size() == bodies.size(),
            bodies.size() - distinct.size() + " messages came twice");
        CheckFailed.unless(distinct.equals(new HashSet<>(expected)), "received " + bodies);
    }

    static List<String> texts(List<MessageView> messages) {
        return messages.stream().map(Clients::text).toList();
    }
}
