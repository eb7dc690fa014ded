package raftmq.driver;

import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.Transaction;
import org.apache.rocketmq.client.apis.producer.TransactionChecker;
import org.apache.rocketmq.client.apis.producer.TransactionResolution;

/** The checks of transactional messages. */
final class TransactionChecks {
    private static final Duration LIMIT = Duration.ofSeconds(30);
    /** Several check-backs would have come by then. */
    private static final Duration QUIET = Duration.ofSeconds(4);

    private final Fixture fixture;

    TransactionChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    String transaction() throws Exception {
        String topic = fixture.topic("transaction");
        Set<String> asked = ConcurrentHashMap.newKeySet();
        Arrivals arrivals = new Arrivals();
        try (Producer producer = fixture.clients.transactionProducer(topic, message -> {
                asked.add(Clients.text(message));
                return TransactionResolution.UNKNOWN;
            });
            SimpleConsumer consumer =
                fixture.clients.simpleConsumer(fixture.group("transaction"), topic)) {
            begin(producer, topic, "committed").commit();
            begin(producer, topic, "rolled-back").rollback();
            arrivals.receive(consumer, LIMIT, all -> !all.soFar().isEmpty());
            arrivals.receiveFor(consumer, QUIET);
            CheckFailed.unless(arrivals.bodies().equals(List.of("committed")),
                "came: " + arrivals.bodies());
            CheckFailed.unless(asked.isEmpty(), "asked about ended transactions: " + asked);
        }
        return "only the committed one came, and nobody asked";
    }

    /** No transaction is ended here: the server asks. About one it must ask twice. */
    String transactionCheck() throws Exception {
        String topic = fixture.topic("transaction-check");
        Map<String, Integer> asked = new ConcurrentHashMap<>();
        TransactionChecker checker = message -> {
            String body = Clients.text(message);
            int times = asked.merge(body, 1, Integer::sum);
            return switch (body) {
                case "commit" -> TransactionResolution.COMMIT;
                case "rollback" -> TransactionResolution.ROLLBACK;
                default ->
                    times == 1 ? TransactionResolution.UNKNOWN : TransactionResolution.COMMIT;
            };
        };
        Arrivals arrivals = new Arrivals();
        try (Producer producer = fixture.clients.transactionProducer(topic, checker);
            SimpleConsumer consumer =
                fixture.clients.simpleConsumer(fixture.group("transaction-check"), topic)) {
            for (String body : Set.of("commit", "rollback", "unknown")) {
                begin(producer, topic, body);
            }
            arrivals.receive(consumer, LIMIT, all -> all.soFar().size() >= 2);
            arrivals.receiveFor(consumer, QUIET);
            Receiving.expectEachOnce(arrivals.bodies(), List.of("commit", "unknown"));
            CheckFailed.unless(asked.size() == 3 && asked.get("unknown") >= 2, "asked " + asked);
        }
        return "asked " + asked + "; committed ones came";
    }

    /** Sends a half message. */
    private Transaction begin(Producer producer, String topic, String body) throws Exception {
        Transaction transaction = producer.beginTransaction();
        producer.send(fixture.clients.message(topic, body), transaction);
        return transaction;
    }
}
