package raftmq.driver;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.FilterExpressionType;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;

/** The checks of SQL92 filters on user properties. */
final class FilterChecks {
    private static final int ILLEGAL_FILTER_EXPRESSION = 40010;
    private static final Duration LIMIT = Duration.ofSeconds(30);
    private static final Duration QUIET = Duration.ofSeconds(3);
    private static final FilterExpression FILTER = sql("a > 5 AND b = 'x'");
    private static final List<String> MATCHING = List.of("six", "ten");
    /** Properties by body. */
    private static final Map<String, Map<String, String>> MESSAGES = Map.of(
        "six", Map.of("a", "6", "b", "x"),
        "ten", Map.of("a", "10", "b", "x"),
        "five", Map.of("a", "5", "b", "x"),
        "no-number", Map.of("a", "many", "b", "x"),
        "other-b", Map.of("a", "6", "b", "y"),
        "no-a", Map.of("b", "x"),
        "no-b", Map.of("a", "6"));

    private final Fixture fixture;

    FilterChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    String simple() throws Exception {
        String topic = fixture.topic("sql-filter-simple");
        send(topic);
        Arrivals arrivals = new Arrivals();
        try (SimpleConsumer consumer = fixture.clients.simpleConsumer(
            fixture.group("sql-filter-simple"), topic, FILTER)) {
            arrivals.receive(consumer, LIMIT, all -> all.soFar().size() >= MATCHING.size());
            arrivals.receiveFor(consumer, QUIET);
        }
        Receiving.expectEachOnce(arrivals.bodies(), MATCHING);
        return MATCHING.size() + " of " + MESSAGES.size() + " came";
    }

    String push() throws Exception {
        String topic = fixture.topic("sql-filter-push");
        send(topic);
        Arrivals arrivals = new Arrivals();
        PushConsumer consumer = fixture.clients.pushConsumer(fixture.group("sql-filter-push"),
            topic, FILTER, message -> {
                arrivals.add(message);
                return ConsumeResult.SUCCESS;
            });
        try {
            arrivals.await(MATCHING.size(), LIMIT);
            Thread.sleep(QUIET.toMillis());
        } finally {
            fixture.closeInBackground(consumer);
        }
        Receiving.expectEachOnce(arrivals.bodies(), MATCHING);
        return MATCHING.size() + " of " + MESSAGES.size() + " came";
    }

    String malformed() throws Exception {
        String topic = fixture.topic("sql-malformed");
        try (SimpleConsumer consumer = fixture.clients.simpleConsumer(
            fixture.group("sql-malformed"), topic, sql("a > 5 AND"))) {
            consumer.receive(1, Receiving.SHORT);
        } catch (ClientException e) {
            CheckFailed.unless(Failures.code(e) == ILLEGAL_FILTER_EXPRESSION,
                "not ILLEGAL_FILTER_EXPRESSION but " + Failures.describe(e));
            return Failures.describe(e);
        }
        throw new CheckFailed("a malformed expression was accepted");
    }

    private void send(String topic) throws ClientException {
        for (Map.Entry<String, Map<String, String>> message : MESSAGES.entrySet()) {
            var builder = fixture.clients.newMessage(topic,
                message.getKey().getBytes(StandardCharsets.UTF_8));
            message.getValue().forEach(builder::addProperty);
            fixture.producer().send(builder.build());
        }
    }

    private static FilterExpression sql(String expression) {
        return new FilterExpression(expression, FilterExpressionType.SQL92);
    }
}
