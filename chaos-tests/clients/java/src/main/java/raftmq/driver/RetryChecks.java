package raftmq.driver;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;

/** The check of the group's retry policy: 3 attempts, 1 s and 2 s apart. */
final class RetryChecks {
    private static final List<Long> BACKOFF_MS = List.of(1_000L, 2_000L);
    private static final long LATE_MS_MAX = 3_000;
    private static final Duration LIMIT = Duration.ofSeconds(30);

    private final Fixture fixture;

    RetryChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    String backoff() throws Exception {
        String topic = fixture.topic("retry-backoff");
        Arrivals arrivals = new Arrivals();
        PushConsumer consumer = fixture.clients.pushConsumer(fixture.group("retry-backoff"), topic,
            message -> {
                arrivals.add(message);
                return ConsumeResult.FAILURE;
            });
        try {
            String id = fixture.send(topic, "poison");
            arrivals.await(BACKOFF_MS.size() + 1, LIMIT);
            DeadLetters.expect(fixture, "retry-backoff", id);
        } finally {
            fixture.closeInBackground(consumer);
        }
        List<Arrivals.Arrival> all = arrivals.soFar();
        List<Integer> attempts = all.stream().map(Arrivals.Arrival::attempt).toList();
        CheckFailed.unless(attempts.equals(List.of(1, 2, 3)), "attempts " + attempts);
        List<Long> gapsMs = new ArrayList<>();
        for (int i = 0; i < BACKOFF_MS.size(); i++) {
            long gapMs = all.get(i + 1).atMs() - all.get(i).atMs();
            long earlyMs = BACKOFF_MS.get(i) - gapMs;
            CheckFailed.unless(earlyMs <= 0, "attempt " + (i + 2) + " after " + gapMs + " ms");
            CheckFailed.unless(-earlyMs <= LATE_MS_MAX,
                "attempt " + (i + 2) + " after " + gapMs + " ms");
            gapsMs.add(gapMs);
        }
        return "attempts " + attempts + " after " + gapsMs + " ms, then the dead-letter topic";
    }
}
