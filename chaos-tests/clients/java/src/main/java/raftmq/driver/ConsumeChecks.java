package raftmq.driver;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageView;

/** The checks that receive through simple consumers and ack what they receive. */
final class ConsumeChecks {
    private static final int MESSAGES = 20;
    private static final int SHARED_MESSAGES = 60;
    private static final Duration QUIET = Duration.ofSeconds(5);

    private final Fixture fixture;

    ConsumeChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    String simpleConsumeAck() throws Exception {
        String topic = fixture.name("topic");
        List<String> sent = fixture.sendMany(topic, "simple_consume_ack", MESSAGES);
        // Other checks send to this topic too.
        Predicate<MessageView> own = m -> Clients.text(m).startsWith("simple_consume_ack-");
        try (SimpleConsumer consumer =
            fixture.clients.simpleConsumer(fixture.name("group"), topic)) {
            List<MessageView> received = Receiving.collect(consumer, MESSAGES, own);
            Receiving.expectEachOnce(Receiving.texts(received), sent);
            Receiving.expectNone(consumer, Receiving.SHORT.plusSeconds(3),
                m -> own.test(m) || m.getDeliveryAttempt() > 1);
        }
        return MESSAGES + " received and acked, none came again";
    }

    String tagFilter() throws Exception {
        String topic = fixture.topic("tag");
        List<String> expected = new ArrayList<>();
        for (int i = 0; i < MESSAGES; i++) {
            for (String tag : List.of("a", "b", "c")) {
                String body = tag + "-" + i;
                fixture.producer().send(
                    fixture.clients.newMessage(topic, body.getBytes(StandardCharsets.UTF_8))
                        .setTag(tag).build());
                if (!tag.equals("c")) {
                    expected.add(body);
                }
            }
        }
        FilterExpression filter = new FilterExpression("a || b", FilterExpressionType.TAG);
        try (SimpleConsumer consumer =
            fixture.clients.simpleConsumer(fixture.group("tag"), topic, filter)) {
            List<MessageView> received = Receiving.collect(consumer, expected.size(), m -> true);
            Receiving.expectEachOnce(Receiving.texts(received), expected);
            for (MessageView message : received) {
                String tag = message.getTag().orElse("none");
                CheckFailed.unless(Clients.text(message).startsWith(tag),
                    Clients.text(message) + " came with tag " + tag);
            }
            Receiving.expectNone(consumer, QUIET, m -> true);
        }
        return expected.size() + " of " + 3 * MESSAGES + " received";
    }

    String twoGroups() throws Exception {
        String topic = fixture.name("topic2");
        List<String> sent = fixture.sendMany(topic, "two_groups", MESSAGES);
        for (String group : List.of(fixture.name("group"), fixture.name("group2"))) {
            try (SimpleConsumer consumer = fixture.clients.simpleConsumer(group, topic)) {
                List<MessageView> received = Receiving.collect(consumer, MESSAGES, m -> true);
                Receiving.expectEachOnce(Receiving.texts(received), sent);
            }
        }
        return "each group received " + MESSAGES;
    }

    String sharedGroup() throws Exception {
        String topic = fixture.topic("shared");
        ConcurrentLinkedQueue<String> all = new ConcurrentLinkedQueue<>();
        CountDownLatch missing = new CountDownLatch(SHARED_MESSAGES);
        ExecutorService members = Executors.newFixedThreadPool(2);
        try (SimpleConsumer one = fixture.clients.simpleConsumer(fixture.group("shared"), topic);
            SimpleConsumer two = fixture.clients.simpleConsumer(fixture.group("shared"), topic)) {
            Future<Integer> first = members.submit(member(one, all, missing));
            Future<Integer> second = members.submit(member(two, all, missing));
            List<String> sent = fixture.sendMany(topic, "shared_group", SHARED_MESSAGES);
            missing.await(60, TimeUnit.SECONDS);
            // A copy for both members would come about now.
            Thread.sleep(QUIET.toMillis());
            members.shutdownNow();
            members.awaitTermination(QUIET.toSeconds() * 2, TimeUnit.SECONDS);
            String shares = "the members received " + first.get() + " and " + second.get();
            Receiving.expectEachOnce(List.copyOf(all), sent);
            CheckFailed.unless(first.get() > 0 && second.get() > 0, shares);
            return shares;
        } finally {
            members.shutdownNow();
        }
    }

    /** Receives a few at a time until interrupted, so that the other member gets a share. */
    private static Callable<Integer> member(SimpleConsumer consumer,
        ConcurrentLinkedQueue<String> all, CountDownLatch missing) {
        return () -> {
            int received = 0;
            while (!Thread.currentThread().isInterrupted()) {
                List<MessageView> messages;
                try {
                    messages = consumer.receiveAsync(2, Receiving.SHORT).get();
                } catch (InterruptedException e) {
                    break;
                }
                for (MessageView message : messages) {
                    consumer.ack(message);
                    all.add(Clients.text(message));
                    missing.countDown();
                    received++;
                }
            }
            return received;
        };
    }

    String propertiesAndKeys() throws Exception {
        String topic = fixture.name("topic");
        byte[] body = new byte[1024];
        for (int i = 0; i < body.length; i++) {
            body[i] = (byte) i;
        }
        Map<String, String> properties = Map.of("plain", "value", "unicode", "größer 大 🚀",
            "signs", "a=b;c|d \"e\" \\ {}", "number", "42");
        var builder = fixture.clients.newMessage(topic, body).setTag("the-tag")
            .setKeys("key-1", "key-2");
        properties.forEach(builder::addProperty);
        Message message = builder.build();
        String id = fixture.producer().send(message).getMessageId().toString();

        try (SimpleConsumer consumer =
            fixture.clients.simpleConsumer(fixture.name("group"), topic)) {
            MessageView received = Receiving.collect(consumer, 1,
                m -> m.getMessageId().toString().equals(id)).get(0);
            expectEqual("body", received.getBody(), ByteBuffer.wrap(body));
            expectEqual("tag", received.getTag().orElse("none"), "the-tag");
            expectEqual("keys", Set.copyOf(received.getKeys()), Set.of("key-1", "key-2"));
            expectEqual("properties", received.getProperties(), properties);
            expectEqual("topic", received.getTopic(), topic);
            expectEqual("born host", received.getBornHost().isEmpty(), false);
        }
        return "message " + id + " came unchanged";
    }

    private static void expectEqual(String what, Object actual, Object expected)
        throws CheckFailed {
        CheckFailed.unless(expected.equals(actual), what + " is " + actual + ", not " + expected);
    }
}
