package raftmq.driver;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Predicate;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** What arrived, in the order it did, from any thread. */
final class Arrivals {
    /**
     * One delivery.
     *
     * @param atMs when the application had it, in milliseconds since 1970
     */
    record Arrival(String body, String id, int attempt, long atMs) {
    }

    private final List<Arrival> all = new ArrayList<>();

    synchronized Arrival add(MessageView message) {
        Arrival arrival = new Arrival(Clients.text(message), message.getMessageId().toString(),
            message.getDeliveryAttempt(), System.currentTimeMillis());
        all.add(arrival);
        notifyAll();
        return arrival;
    }

    synchronized List<Arrival> soFar() {
        return List.copyOf(all);
    }

    synchronized List<String> bodies() {
        return all.stream().map(Arrival::body).toList();
    }

    /** Waits until so many have come; fails when they do not within the limit. */
    synchronized List<Arrival> await(int count, Duration limit)
        throws InterruptedException, CheckFailed {
        long deadline = System.nanoTime() + limit.toNanos();
        while (all.size() < count) {
            long leftMs = (deadline - System.nanoTime()) / 1_000_000;
            CheckFailed.unless(leftMs > 0, "only " + bodies() + " came within " + limit);
            wait(leftMs);
        }
        return soFar();
    }

    /** Receives, notes and acks until the condition holds; fails after the limit. */
    void receive(SimpleConsumer consumer, Duration limit, Predicate<Arrivals> until)
        throws ClientException, CheckFailed {
        long deadline = System.nanoTime() + limit.toNanos();
        while (!until.test(this)) {
            CheckFailed.unless(System.nanoTime() < deadline,
                "only " + bodies() + " came within " + limit);
            for (MessageView message : consumer.receive(Receiving.BATCH, Receiving.SHORT)) {
                // Before the ack, after which another consumer may get what comes next.
                add(message);
                consumer.ack(message);
            }
        }
    }

    /** The same for the whole period. */
    void receiveFor(SimpleConsumer consumer, Duration period) throws ClientException, CheckFailed {
        long end = System.nanoTime() + period.toNanos();
        receive(consumer, period.plusMinutes(1), any -> System.nanoTime() >= end);
    }
}
