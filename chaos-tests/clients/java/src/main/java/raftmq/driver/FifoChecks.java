package raftmq.driver;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;

/** The checks of message groups. A body is {@code <message group>-<number>}. */
final class FifoChecks {
    private static final List<String> MESSAGE_GROUPS = List.of("red", "green", "blue");
    private static final int EACH = 8;
    private static final Duration LIMIT = Duration.ofSeconds(30);
    /** Well before red-0 becomes visible again. */
    private static final long UNBLOCKED_MS = 8_000;
    private static final int ATTEMPTS_MAX = 3;

    private final Fixture fixture;

    FifoChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    /** Two consumers share the group; a message is noted before it is acked. */
    String orderSimple() throws Exception {
        String topic = fixture.topic("fifo-order-simple");
        String group = fixture.group("fifo-order-simple");
        sendInTurn(topic);
        Arrivals arrivals = new Arrivals();
        int count = EACH * MESSAGE_GROUPS.size();
        ExecutorService members = Executors.newFixedThreadPool(2);
        try (SimpleConsumer one = fixture.clients.simpleConsumer(group, topic);
            SimpleConsumer two = fixture.clients.simpleConsumer(group, topic)) {
            List<Future<?>> runs = new ArrayList<>();
            for (SimpleConsumer member : List.of(one, two)) {
                runs.add(members.submit(() -> {
                    arrivals.receive(member, LIMIT, all -> all.soFar().size() >= count);
                    return null;
                }));
            }
            for (Future<?> run : runs) {
                run.get();
            }
        } finally {
            members.shutdownNow();
        }
        return expectOrder(arrivals.bodies());
    }

    String orderPush() throws Exception {
        String topic = fixture.topic("fifo-order-push");
        sendInTurn(topic);
        Arrivals arrivals = new Arrivals();
        PushConsumer consumer = fixture.clients.pushConsumer(fixture.group("fifo-order-push"),
            topic, message -> {
                arrivals.add(message);
                return ConsumeResult.SUCCESS;
            });
        try {
            arrivals.await(EACH * MESSAGE_GROUPS.size(), LIMIT);
        } finally {
            fixture.closeInBackground(consumer);
        }
        return expectOrder(arrivals.bodies());
    }

    /** red-0 is not acked: green and blue go on, and red comes again, in order. */
    String blocked() throws Exception {
        String topic = fixture.topic("fifo-blocked");
        try (SimpleConsumer consumer =
            fixture.clients.simpleConsumer(fixture.group("fifo-blocked"), topic)) {
            send(topic, "red", 0);
            Receiving.one(consumer, Receiving.SHORT);
            long out = System.nanoTime();
            for (int i = 0; i < EACH; i++) {
                for (String messageGroup : MESSAGE_GROUPS) {
                    if (!messageGroup.equals("red") || i > 0) {
                        send(topic, messageGroup, i);
                    }
                }
            }
            Arrivals arrivals = new Arrivals();
            int others = EACH * (MESSAGE_GROUPS.size() - 1);
            arrivals.receive(consumer, LIMIT, all -> all.soFar().size() >= others);
            long unblockedMs = (System.nanoTime() - out) / 1_000_000;
            CheckFailed.unless(arrivals.bodies().stream().noneMatch(FifoChecks::isRed),
                "came while red-0 was out: " + arrivals.bodies());
            CheckFailed.unless(unblockedMs < UNBLOCKED_MS, "the others took " + unblockedMs + " ms");
            arrivals.receive(consumer, LIMIT, all -> all.soFar().size() >= others + EACH);
            Arrivals.Arrival again =
                arrivals.soFar().stream().filter(a -> isRed(a.body())).findFirst().orElseThrow();
            CheckFailed.unless(again.body().equals("red-0") && again.attempt() == 2,
                "came again first: " + again);
            expectOrder(arrivals.bodies());
            return "the others came within " + unblockedMs
                + " ms, then red in order, red-0 as attempt 2";
        }
    }

    private static boolean isRed(String body) {
        return body.startsWith("red-");
    }

    /**
     * The listener fails for red-0. Meanwhile the other message groups go on; the later red
     * messages come after its last attempt.
     */
    String deadLetter() throws Exception {
        String topic = fixture.topic("fifo-dead-letter");
        Arrivals arrivals = new Arrivals();
        ConcurrentLinkedQueue<Integer> attempts = new ConcurrentLinkedQueue<>();
        PushConsumer consumer = fixture.clients.pushConsumer(fixture.group("fifo-dead-letter"),
            topic, message -> {
                Arrivals.Arrival arrival = arrivals.add(message);
                if (arrival.body().equals("red-0")) {
                    attempts.add(arrival.attempt());
                    return ConsumeResult.FAILURE;
                }
                return ConsumeResult.SUCCESS;
            });
        String id;
        try {
            id = send(topic, "red", 0);
            arrivals.await(1, LIMIT);
            send(topic, "green", 0);
            send(topic, "red", 1);
            send(topic, "red", 2);
            arrivals.await(ATTEMPTS_MAX + 3, LIMIT);
        } finally {
            fixture.closeInBackground(consumer);
        }
        CheckFailed.unless(List.copyOf(attempts).equals(List.of(1, 2, 3)), "attempts " + attempts);
        CheckFailed.unless(arrivals.bodies().equals(
            List.of("red-0", "green-0", "red-0", "red-0", "red-1", "red-2")),
            "came as " + arrivals.bodies());
        DeadLetters.expect(fixture, "fifo-dead-letter", id);
        return "attempts " + attempts + ", then the dead-letter topic and the rest of its group";
    }

    /** Sends to all message groups in turn. */
    private void sendInTurn(String topic) throws ClientException {
        for (int i = 0; i < EACH; i++) {
            for (String messageGroup : MESSAGE_GROUPS) {
                send(topic, messageGroup, i);
            }
        }
    }

    /** Returns the message id. */
    private String send(String topic, String messageGroup, int number) throws ClientException {
        byte[] body = (messageGroup + "-" + number).getBytes(StandardCharsets.UTF_8);
        return fixture.producer().send(fixture.clients.newMessage(topic, body)
            .setMessageGroup(messageGroup).build()).getMessageId().toString();
    }

    private static String expectOrder(List<String> bodies) throws CheckFailed {
        for (String messageGroup : MESSAGE_GROUPS) {
            List<String> expected = new ArrayList<>();
            for (int i = 0; i < EACH; i++) {
                expected.add(messageGroup + "-" + i);
            }
            List<String> own =
                bodies.stream().filter(body -> body.startsWith(messageGroup + "-")).toList();
            CheckFailed.unless(own.equals(expected), "came as " + own);
        }
        return EACH * MESSAGE_GROUPS.size() + " in order in each message group";
    }
}
