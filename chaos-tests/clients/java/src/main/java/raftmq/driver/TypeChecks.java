package raftmq.driver;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/** The checks of topic types. */
final class TypeChecks {
    private static final List<String> TYPES = List.of("normal", "fifo", "delay", "transaction");
    private static final int MESSAGE_PROPERTY_CONFLICT_WITH_TYPE = 40014;
    private static final Duration LIMIT = Duration.ofSeconds(30);

    private final Fixture fixture;

    TypeChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    /** Each topic refuses the three types that it does not have. */
    String wrongType() throws Exception {
        int refused = 0;
        for (String topicType : TYPES) {
            String topic = fixture.topic("wrong-type-" + topicType);
            try (Producer producer = producer(topic)) {
                send(producer, topic, topicType);
                for (String type : TYPES) {
                    if (!type.equals(topicType)) {
                        expectRefused(producer, topic, type);
                        refused++;
                    }
                }
            }
        }
        return refused + " of " + refused + " refused";
    }

    String mixed() throws Exception {
        String topic = fixture.topic("mixed");
        Arrivals arrivals = new Arrivals();
        try (Producer producer = producer(topic);
            SimpleConsumer consumer =
                fixture.clients.simpleConsumer(fixture.group("mixed"), topic)) {
            for (String type : TYPES) {
                send(producer, topic, type);
            }
            arrivals.receive(consumer, LIMIT, all -> all.soFar().size() >= TYPES.size());
        }
        Receiving.expectEachOnce(arrivals.bodies(), TYPES);
        return "all four came";
    }

    private Producer producer(String topic) throws Exception {
        return fixture.clients.transactionProducer(topic, m -> TransactionResolution.UNKNOWN);
    }

    /** Sends a message of this type; its body is the type. */
    private void send(Producer producer, String topic, String type) throws Exception {
        MessageBuilder message =
            fixture.clients.newMessage(topic, type.getBytes(StandardCharsets.UTF_8));
        switch (type) {
            case "fifo" -> producer.send(message.setMessageGroup("group").build());
            case "delay" -> producer.send(
                message.setDeliveryTimestamp(System.currentTimeMillis() + 1_000).build());
            case "transaction" -> {
                Transaction transaction = producer.beginTransaction();
                producer.send(message.build(), transaction);
                transaction.commit();
            }
            default -> producer.send(message.build());
        }
    }

    /** By the client, which has the types from the route, or by the server. */
    private void expectRefused(Producer producer, String topic, String type) throws CheckFailed {
        try {
            send(producer, topic, type);
        } catch (Exception e) {
            CheckFailed.unless(Failures.code(e) == MESSAGE_PROPERTY_CONFLICT_WITH_TYPE
                || Failures.describe(e).contains("not match with topic accept message types"),
                "refused for another reason: " + Failures.describe(e));
            return;
        }
        throw new CheckFailed(topic + " took a message of type " + type);
    }
}
