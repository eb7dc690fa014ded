package raftmq.driver;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;

/** The checks of messages with a delivery timestamp. */
final class DelayChecks {
    private static final long DELAY_MS = 4_000;
    /** The promise is far less; the rest is for a busy machine. */
    private static final long LATE_MS_MAX = 3_000;
    private static final Duration LIMIT = Duration.ofSeconds(30);

    private final Fixture fixture;

    DelayChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    String delay() throws Exception {
        String topic = fixture.topic("delay");
        Arrivals arrivals = new Arrivals();
        try (SimpleConsumer consumer =
            fixture.clients.simpleConsumer(fixture.group("delay"), topic)) {
            long sentMs = System.currentTimeMillis();
            long dueMs = sentMs + DELAY_MS;
            send(topic, "future", dueMs);
            send(topic, "past", sentMs - 60_000);
            arrivals.receive(consumer, LIMIT, all -> all.soFar().size() >= 2);
            List<Arrivals.Arrival> all = arrivals.soFar();
            CheckFailed.unless(arrivals.bodies().equals(List.of("past", "future")),
                "came as " + arrivals.bodies());
            long pastMs = all.get(0).atMs() - sentMs;
            long lateMs = all.get(1).atMs() - dueMs;
            CheckFailed.unless(pastMs <= LATE_MS_MAX, "from the past after " + pastMs + " ms");
            CheckFailed.unless(lateMs >= 0, "came " + -lateMs + " ms early");
            CheckFailed.unless(lateMs <= LATE_MS_MAX, "came " + lateMs + " ms late");
            return "came " + lateMs + " ms after its time; from the past after " + pastMs + " ms";
        }
    }

    String recall() throws Exception {
        String topic = fixture.topic("recall");
        Arrivals arrivals = new Arrivals();
        try (SimpleConsumer consumer =
            fixture.clients.simpleConsumer(fixture.group("recall"), topic)) {
            long dueMs = System.currentTimeMillis() + DELAY_MS;
            SendReceipt recalled = send(topic, "recalled", dueMs);
            SendReceipt kept = send(topic, "kept", dueMs);
            // Twice: as after an answer that got lost.
            for (int i = 0; i < 2; i++) {
                String id = fixture.producer().recallMessage(topic, recalled.getRecallHandle())
                    .getMessageId().toString();
                CheckFailed.unless(id.equals(recalled.getMessageId().toString()), "recalled " + id);
            }
            arrivals.receive(consumer, LIMIT, all -> all.bodies().contains("kept"));
            TimeUnit.SECONDS.sleep(1);
            arrivals.receiveFor(consumer, Duration.ofSeconds(1));
            CheckFailed.unless(arrivals.bodies().equals(List.of("kept")),
                "came: " + arrivals.bodies());
            String late = refusal(topic, kept.getRecallHandle());
            return "only the other one came; recalled after delivery: " + late;
        }
    }

    private SendReceipt send(String topic, String body, long dueMs) throws ClientException {
        return fixture.producer().send(
            fixture.clients.newMessage(topic, body.getBytes(StandardCharsets.UTF_8))
                .setDeliveryTimestamp(dueMs).build());
    }

    private String refusal(String topic, String handle) throws CheckFailed {
        try {
            fixture.producer().recallMessage(topic, handle);
        } catch (ClientException e) {
            return "code " + Failures.code(e);
        }
        throw new CheckFailed("recalled what is not pending any more");
    }
}
