package raftmq.driver;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;

/** The check of priorities. */
final class PriorityChecks {
    private static final int PRIORITIES = 3;
    private static final int MESSAGES = 12;
    /** Smaller than the messages of one priority, so that more than one receive is needed. */
    private static final int BATCH = 3;
    private static final Duration LIMIT = Duration.ofSeconds(30);

    private final Fixture fixture;

    PriorityChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    /** Out of a backlog, higher ones come first. */
    String priority() throws Exception {
        String topic = fixture.topic("priority");
        for (int i = 0; i < MESSAGES; i++) {
            byte[] body = ("message-" + i).getBytes(StandardCharsets.UTF_8);
            fixture.producer().send(
                fixture.clients.newMessage(topic, body).setPriority(1 + i % PRIORITIES).build());
        }
        List<Integer> received = new ArrayList<>();
        try (SimpleConsumer consumer =
            fixture.clients.simpleConsumer(fixture.group("priority"), topic)) {
            long deadline = System.nanoTime() + LIMIT.toNanos();
            while (received.size() < MESSAGES) {
                CheckFailed.unless(System.nanoTime() < deadline, "only " + received + " came");
                for (MessageView message : consumer.receive(BATCH, Receiving.SHORT)) {
                    received.add(message.getPriority().orElse(0));
                    consumer.ack(message);
                }
            }
        }
        List<Integer> sorted = received.stream().sorted(Comparator.reverseOrder()).toList();
        CheckFailed.unless(received.equals(sorted), "came as " + received);
        return "came as " + received;
    }
}
