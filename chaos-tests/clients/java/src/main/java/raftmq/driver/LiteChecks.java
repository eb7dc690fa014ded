package raftmq.driver;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Queue;
import java.util.Set;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.java.exception.LiteSubscriptionQuotaExceededException;
import org.apache.rocketmq.client.java.exception.LiteTopicQuotaExceededException;

/** The checks of lite topics. A body is {@code <lite topic>-<number>}. */
final class LiteChecks {
    private static final List<String> LITE_TOPICS = List.of("red", "green", "blue");
    private static final int EACH = 8;
    private static final Duration LIMIT = Duration.ofSeconds(30);
    /** How long what must not come gets to show up. */
    private static final long QUIET_MS = 3_000;
    private static final int ATTEMPTS_MAX = 3;
    private static final int NAME_LENGTH_MAX = 64;
    private static final int ILLEGAL_LITE_TOPIC = 40020;
    private static final int LITE_TOPIC_QUOTA_EXCEEDED = 42901;
    private static final int LITE_SUBSCRIPTION_QUOTA_EXCEEDED = 42902;
    /** Of a dead consumer's messages: until the invisible time that it was renewing is over. */
    private static final Duration TAKEOVER_LIMIT = Duration.ofSeconds(60);
    /** The client tells the server all its subscriptions every 30 s. */
    private static final long SYNCED_MS = 33_000;

    private final Fixture fixture;

    LiteChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    /** Of three lite topics it gets the two that it subscribed to. */
    String push() throws Exception {
        String topic = fixture.topic("lite-push");
        Arrivals arrivals = new Arrivals();
        Queue<String> misnamed = new ConcurrentLinkedQueue<>();
        LitePushConsumer consumer = fixture.clients.litePushConsumer(
            fixture.group("lite-push"), topic, message -> {
                String body = arrivals.add(message).body();
                String liteTopic = message.getLiteTopic().orElse("none");
                if (!body.startsWith(liteTopic + "-")) {
                    misnamed.add(body + " in " + liteTopic);
                }
                return ConsumeResult.SUCCESS;
            });
        try {
            consumer.subscribeLite("red");
            consumer.subscribeLite("green");
            for (int i = 0; i < EACH; i++) {
                for (String liteTopic : LITE_TOPICS) {
                    send(topic, liteTopic, i);
                }
            }
            arrivals.await(2 * EACH, LIMIT);
            Thread.sleep(QUIET_MS);
        } finally {
            fixture.closeInBackground(consumer);
        }
        CheckFailed.unless(misnamed.isEmpty(), "came with another lite topic: " + misnamed);
        expectOrder(arrivals.bodies(), "red", "green");
        return 2 * EACH + " of " + LITE_TOPICS.size() * EACH + " came, in order in each lite topic";
    }

    /** Subscriptions come and go while the consumer runs. */
    String subscriptions() throws Exception {
        String topic = fixture.topic("lite-subscriptions");
        send(topic, "red", 0);
        Arrivals arrivals = new Arrivals();
        LitePushConsumer consumer = fixture.clients.litePushConsumer(
            fixture.group("lite-subscriptions"), topic, message -> succeed(arrivals, message));
        try {
            consumer.subscribeLite("red");
            arrivals.await(1, LIMIT);
            // Nothing was ever sent there.
            consumer.subscribeLite("green");
            send(topic, "green", 0);
            arrivals.await(2, LIMIT);
            consumer.unsubscribeLite("red");
            send(topic, "red", 1);
            send(topic, "green", 1);
            arrivals.await(3, LIMIT);
            Thread.sleep(QUIET_MS);
            CheckFailed.unless(arrivals.bodies().equals(List.of("red-0", "green-0", "green-1")),
                "without a subscription to red came " + arrivals.bodies());
            consumer.subscribeLite("red");
            arrivals.await(4, LIMIT);
        } finally {
            fixture.closeInBackground(consumer);
        }
        List<String> expected = List.of("red-0", "green-0", "green-1", "red-1");
        CheckFailed.unless(arrivals.bodies().equals(expected), "came as " + arrivals.bodies());
        return "what was sent without a subscriber came with the subscription";
    }

    /** Each of two members has a lite topic of its own, and both have a third one. */
    String members() throws Exception {
        String topic = fixture.topic("lite-members");
        String group = fixture.group("lite-members");
        Arrivals all = new Arrivals();
        Arrivals ofOne = new Arrivals();
        Arrivals ofTwo = new Arrivals();
        LitePushConsumer one = fixture.clients.litePushConsumer(group, topic, message -> {
            ofOne.add(message);
            return succeed(all, message);
        });
        LitePushConsumer two = fixture.clients.litePushConsumer(group, topic, message -> {
            ofTwo.add(message);
            return succeed(all, message);
        });
        try {
            one.subscribeLite("red");
            two.subscribeLite("green");
            one.subscribeLite("blue");
            two.subscribeLite("blue");
            for (int i = 0; i < EACH; i++) {
                for (String liteTopic : LITE_TOPICS) {
                    send(topic, liteTopic, i);
                }
            }
            all.await(LITE_TOPICS.size() * EACH, LIMIT);
            Thread.sleep(QUIET_MS);
        } finally {
            fixture.closeInBackground(one);
            fixture.closeInBackground(two);
        }
        expectOrder(all.bodies(), "red", "green", "blue");
        expectOrder(without("blue", ofOne.bodies()), "red");
        expectOrder(without("blue", ofTwo.bodies()), "green");
        long shared = ofOne.bodies().stream().filter(body -> body.startsWith("blue-")).count();
        return "each got its own; of the shared lite topic one got " + shared + ", the other "
            + (EACH - shared);
    }

    /**
     * The listener fails for red-0. Meanwhile another lite topic goes on; the later red messages
     * come after its last attempt.
     */
    String deadLetter() throws Exception {
        String topic = fixture.topic("lite-dead-letter");
        Arrivals arrivals = new Arrivals();
        Queue<Integer> attempts = new ConcurrentLinkedQueue<>();
        LitePushConsumer consumer = fixture.clients.litePushConsumer(
            fixture.group("lite-dead-letter"), topic, message -> {
                Arrivals.Arrival arrival = arrivals.add(message);
                if (arrival.body().equals("red-0")) {
                    attempts.add(arrival.attempt());
                    return ConsumeResult.FAILURE;
                }
                return ConsumeResult.SUCCESS;
            });
        String id;
        try {
            consumer.subscribeLite("red");
            consumer.subscribeLite("green");
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
        DeadLetters.expect(fixture, "lite-dead-letter", id);
        return "attempts " + attempts
            + ", then the dead-letter topic and the rest of its lite topic";
    }

    /** A member of this group may have two subscriptions. */
    String quota() throws Exception {
        LitePushConsumer consumer = fixture.clients.litePushConsumer(
            fixture.group("lite-quota"), fixture.topic("lite-quota"),
            message -> ConsumeResult.SUCCESS);
        try {
            consumer.subscribeLite("red");
            consumer.subscribeLite("green");
            try {
                consumer.subscribeLite("blue");
                throw new CheckFailed("subscribed to a third lite topic");
            } catch (LiteSubscriptionQuotaExceededException e) {
                CheckFailed.unless(Failures.code(e) == LITE_SUBSCRIPTION_QUOTA_EXCEEDED,
                    "refused for another reason: " + Failures.describe(e));
            }
            consumer.unsubscribeLite("red");
            consumer.subscribeLite("blue");
        } finally {
            fixture.closeInBackground(consumer);
        }
        return "the third was refused, until there was one less";
    }

    /** This topic may have two lite topics. */
    String topicQuota() throws Exception {
        String topic = fixture.topic("lite-topic-quota");
        send(topic, "red", 0);
        send(topic, "green", 0);
        try {
            send(topic, "blue", 0);
            throw new CheckFailed("made a third lite topic");
        } catch (LiteTopicQuotaExceededException e) {
            CheckFailed.unless(Failures.code(e) == LITE_TOPIC_QUOTA_EXCEEDED,
                "refused for another reason: " + Failures.describe(e));
        }
        send(topic, "red", 1);
        return "the third was refused, the others go on";
    }

    /** In this group a lite topic belongs to the member that subscribed to it last. */
    String exclusive() throws Exception {
        String topic = fixture.topic("lite-exclusive");
        String group = fixture.group("lite-exclusive");
        Arrivals ofOne = new Arrivals();
        Arrivals ofTwo = new Arrivals();
        LitePushConsumer one =
            fixture.clients.litePushConsumer(group, topic, message -> succeed(ofOne, message));
        LitePushConsumer two =
            fixture.clients.litePushConsumer(group, topic, message -> succeed(ofTwo, message));
        try {
            one.subscribeLite("red");
            one.subscribeLite("green");
            send(topic, "red", 0);
            ofOne.await(1, LIMIT);
            two.subscribeLite("red");
            send(topic, "red", 1);
            ofTwo.await(1, LIMIT);
            Thread.sleep(SYNCED_MS);
            CheckFailed.unless(one.getLiteTopicSet().equals(Set.of("green")),
                "the former owner was not told, it has " + one.getLiteTopicSet());
            send(topic, "red", 2);
            send(topic, "green", 0);
            ofOne.await(2, LIMIT);
            ofTwo.await(2, LIMIT);
        } finally {
            fixture.closeInBackground(one);
            fixture.closeInBackground(two);
        }
        CheckFailed.unless(ofOne.bodies().equals(List.of("red-0", "green-0"))
            && ofTwo.bodies().equals(List.of("red-1", "red-2")),
            "came as " + ofOne.bodies() + " and " + ofTwo.bodies());
        return "the former owner was told, and kept the other lite topic";
    }

    /** Blank names do not get out of the client, and long ones only with a message. */
    String illegalName() throws Exception {
        String topic = fixture.topic("lite-illegal-name");
        send(topic, "x".repeat(NAME_LENGTH_MAX), 0);
        String tooLong = "x".repeat(NAME_LENGTH_MAX + 1);
        try {
            send(topic, tooLong, 0);
            throw new CheckFailed("took a lite topic of " + tooLong.length() + " characters");
        } catch (ClientException e) {
            CheckFailed.unless(Failures.code(e) == ILLEGAL_LITE_TOPIC,
                "refused for another reason: " + Failures.describe(e));
        }
        LitePushConsumer consumer = fixture.clients.litePushConsumer(
            fixture.group("lite-illegal-name"), topic, message -> ConsumeResult.SUCCESS);
        try {
            for (String name : List.of(tooLong, " ", "")) {
                try {
                    consumer.subscribeLite(name);
                    throw new CheckFailed("subscribed to '" + name + "'");
                } catch (IllegalArgumentException expected) {
                    // By the client, with the length from the server's settings.
                }
            }
        } finally {
            fixture.closeInBackground(consumer);
        }
        return "the longest legal name passed, longer and blank ones were refused";
    }

    /** A consumer is killed with a message in its listener. */
    String takeover() throws Exception {
        String topic = fixture.topic("lite-takeover");
        String group = fixture.group("lite-takeover");
        Arrivals arrivals = new Arrivals();
        LitePushConsumer survivor;
        long outMs;
        try (LiteHolder.Remote victim = LiteHolder.start(fixture, topic, group, "red")) {
            send(topic, "red", 0);
            String held = victim.nextBody(LIMIT);
            CheckFailed.unless("red-0".equals(held), "the victim holds " + held);
            survivor = fixture.clients.litePushConsumer(group, topic,
                message -> succeed(arrivals, message));
            survivor.subscribeLite("red");
            survivor.subscribeLite("green");
            send(topic, "red", 1);
            send(topic, "green", 0);
            arrivals.await(1, LIMIT);
            CheckFailed.unless(arrivals.bodies().equals(List.of("green-0")),
                "while the victim held red-0 came " + arrivals.bodies());
            outMs = System.currentTimeMillis();
        }
        try {
            List<Arrivals.Arrival> all = arrivals.await(3, TAKEOVER_LIMIT);
            CheckFailed.unless(arrivals.bodies().equals(List.of("green-0", "red-0", "red-1")),
                "came as " + arrivals.bodies());
            return "taken over " + (all.get(1).atMs() - outMs) + " ms after the kill, in order";
        } finally {
            fixture.closeInBackground(survivor);
        }
    }

    private static ConsumeResult succeed(Arrivals arrivals, MessageView message) {
        arrivals.add(message);
        return ConsumeResult.SUCCESS;
    }

    /** Returns the message id. */
    private String send(String topic, String liteTopic, int number) throws ClientException {
        byte[] body = (liteTopic + "-" + number).getBytes(StandardCharsets.UTF_8);
        return fixture.producer().send(fixture.clients.newMessage(topic, body)
            .setLiteTopic(liteTopic).build()).getMessageId().toString();
    }

    private static List<String> without(String liteTopic, List<String> bodies) {
        return bodies.stream().filter(body -> !body.startsWith(liteTopic + "-")).toList();
    }

    /** Fails unless the messages of these lite topics came, once and in order, and no others. */
    private static void expectOrder(List<String> bodies, String... liteTopics) throws CheckFailed {
        CheckFailed.unless(bodies.size() == liteTopics.length * EACH,
            bodies.size() + " came: " + bodies);
        for (String liteTopic : liteTopics) {
            List<String> expected = new ArrayList<>();
            for (int i = 0; i < EACH; i++) {
                expected.add(liteTopic + "-" + i);
            }
            List<String> own =
                bodies.stream().filter(body -> body.startsWith(liteTopic + "-")).toList();
            CheckFailed.unless(own.equals(expected), "came as " + own);
        }
    }
}
