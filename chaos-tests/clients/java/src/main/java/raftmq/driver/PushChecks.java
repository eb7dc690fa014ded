package raftmq.driver;

import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.rocketmq.client.apis.consumer.ConsumeResult;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;

/** The checks that consume through push consumers. */
final class PushChecks {
    private static final int MESSAGES = 20;
    private static final int BODY_BYTES = 256;
    private static final int SENDS_IN_FLIGHT = 64;
    private static final long ARRIVAL_SECONDS = 60;
    private static final long BULK_ARRIVAL_SECONDS = 300;
    /** How long a second copy of a message gets to show up. */
    private static final long QUIET_SECONDS = 5;

    private final Fixture fixture;

    PushChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    String pushConsume() throws Exception {
        Tally tally = new Tally(MESSAGES);
        PushConsumer consumer = fixture.clients.pushConsumer(fixture.group("push"),
            fixture.topic("push"), tally);
        try {
            fixture.sendMany(fixture.topic("push"), "push_consume", MESSAGES);
            tally.awaitAll(ARRIVAL_SECONDS);
        } finally {
            fixture.closeInBackground(consumer);
        }
        return MESSAGES + " received once";
    }

    String bulk() throws Exception {
        int count = fixture.bulkCount;
        Tally tally = new Tally(count);
        PushConsumer consumer = fixture.clients.pushConsumer(fixture.group("bulk"),
            fixture.topic("bulk"), tally);
        try {
            long start = System.nanoTime();
            sendBulk(count);
            double sendSeconds = (System.nanoTime() - start) / 1e9;
            double allSeconds = (tally.awaitAll(BULK_ARRIVAL_SECONDS) - start) / 1e9;
            return String.format("%d messages: 0 lost, 0 duplicates; sent %.0f/s, consumed %.0f/s",
                count, count / sendSeconds, count / allSeconds);
        } finally {
            fixture.closeInBackground(consumer);
        }
    }

    private void sendBulk(int count) throws Exception {
        Producer producer = fixture.producer();
        Semaphore slots = new Semaphore(SENDS_IN_FLIGHT);
        AtomicReference<Throwable> failure = new AtomicReference<>();
        for (int i = 0; i < count && failure.get() == null; i++) {
            String head = "bulk-" + i + "-";
            String body = head + "x".repeat(BODY_BYTES - head.length());
            slots.acquire();
            producer.sendAsync(fixture.clients.message(fixture.topic("bulk"), body))
                .whenComplete((receipt, error) -> {
                    failure.compareAndSet(null, error);
                    slots.release();
                });
        }
        slots.acquire(SENDS_IN_FLIGHT);
        if (failure.get() != null) {
            throw new CheckFailed("a send failed: " + Failures.describe(failure.get()));
        }
    }

    /** Counts the deliveries of each body. */
    private static final class Tally implements MessageListener {
        private final int expected;
        private final CountDownLatch missing;
        private final Map<String, Integer> deliveries = new ConcurrentHashMap<>();
        private final AtomicInteger duplicates = new AtomicInteger();

        Tally(int expected) {
            this.expected = expected;
            missing = new CountDownLatch(expected);
        }

        @Override
        public ConsumeResult consume(MessageView message) {
            if (deliveries.merge(Clients.text(message), 1, Integer::sum) == 1) {
                missing.countDown();
            } else {
                duplicates.incrementAndGet();
            }
            return ConsumeResult.SUCCESS;
        }

        /**
         * Fails unless all come within the seconds, and none twice until some seconds later.
         * Returns when the last one came, in nanoseconds.
         */
        long awaitAll(long seconds) throws InterruptedException, CheckFailed {
            boolean complete = missing.await(seconds, TimeUnit.SECONDS);
            long end = System.nanoTime();
            TimeUnit.SECONDS.sleep(QUIET_SECONDS);
            CheckFailed.unless(complete && duplicates.get() == 0, expected + " messages: "
                + missing.getCount() + " lost, " + duplicates.get() + " duplicates");
            return end;
        }
    }
}
