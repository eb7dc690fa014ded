package raftmq.driver;

import java.util.concurrent.TimeUnit;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;

/** Reads the dead-letter topic of a check's group, as an ordinary topic. */
final class DeadLetters {
    private static final long EXISTS_SECONDS = 30;

    private DeadLetters() {
    }

    /** Fails unless the message comes from there. */
    static void expect(Fixture fixture, String check, String id) throws Exception {
        String topic = "%DLQ%" + fixture.group(check);
        try (SimpleConsumer consumer = whenItExists(fixture, check, topic)) {
            Receiving.collect(consumer, 1, m -> m.getMessageId().toString().equals(id));
        }
    }

    /** The topic is made with its first message. */
    private static SimpleConsumer whenItExists(Fixture fixture, String check, String topic)
        throws Exception {
        long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(EXISTS_SECONDS);
        while (true) {
            try {
                return fixture.clients.simpleConsumer(fixture.group(check + "-reader"), topic);
            } catch (ClientException | IllegalStateException e) {
                CheckFailed.unless(System.nanoTime() < deadline,
                    "no topic " + topic + ": " + Failures.describe(e));
                TimeUnit.MILLISECONDS.sleep(500);
            }
        }
    }
}
