package raftmq.driver;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;

/** The checks that only send. */
final class SendChecks {
    private static final int MESSAGES = 20;
    private static final int TOPIC_NOT_FOUND = 40402;
    private static final int MESSAGE_BODY_TOO_LARGE = 41301;
    private static final int MAX_BODY_BYTES = 4 * 1024 * 1024;

    private final Fixture fixture;

    SendChecks(Fixture fixture) {
        this.fixture = fixture;
    }

    String sendSync() throws Exception {
        Set<String> ids = new HashSet<>();
        for (int i = 0; i < MESSAGES; i++) {
            ids.add(fixture.send(fixture.name("topic"), "send_sync-" + i));
        }
        CheckFailed.unless(ids.size() == MESSAGES, "only " + ids.size() + " different message ids");
        return MESSAGES + " sent";
    }

    String sendAsync() throws Exception {
        List<CompletableFuture<SendReceipt>> sends = new ArrayList<>();
        for (int i = 0; i < MESSAGES; i++) {
            sends.add(fixture.producer().sendAsync(
                fixture.clients.message(fixture.name("topic"), "send_async-" + i)));
        }
        Set<String> ids = new HashSet<>();
        for (CompletableFuture<SendReceipt> send : sends) {
            ids.add(send.get().getMessageId().toString());
        }
        CheckFailed.unless(ids.size() == MESSAGES, "only " + ids.size() + " different message ids");
        return MESSAGES + " sent at once";
    }

    String unknownTopic() throws Exception {
        String unknown = fixture.topic("unknown");
        // Not the shared producer: the client declares each topic it was asked to send to in its
        // settings from then on.
        try (Producer producer = fixture.clients.producer(fixture.name("topic"))) {
            producer.send(fixture.clients.message(unknown, "unknown_topic"));
        } catch (ClientException e) {
            CheckFailed.unless(Failures.code(e) == TOPIC_NOT_FOUND,
                "not TOPIC_NOT_FOUND but " + Failures.describe(e));
            return Failures.describe(e);
        }
        throw new CheckFailed("a message to " + unknown + " was accepted");
    }

    String bodyTooLarge() throws Exception {
        byte[] body = new byte[MAX_BODY_BYTES + 1];
        try {
            fixture.producer().send(
                fixture.clients.newMessage(fixture.name("topic"), body).build());
        } catch (ClientException e) {
            if (Failures.code(e) == MESSAGE_BODY_TOO_LARGE) {
                return "refused by the server: " + Failures.describe(e);
            }
            // The limit is the server's all the same: the client has it from the settings.
            CheckFailed.unless(Failures.describe(e).contains("body size exceeds the threshold"),
                "refused for another reason: " + Failures.describe(e));
            return "refused by the client: " + Failures.describe(e);
        }
        throw new CheckFailed("a body of 4 MiB + 1 byte was accepted");
    }
}
