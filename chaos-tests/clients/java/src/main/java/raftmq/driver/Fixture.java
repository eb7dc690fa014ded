package raftmq.driver;

import java.io.Closeable;
import java.util.ArrayList;
import java.util.List;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.SendReceipt;

/** What the checks of one run share: the clients, one producer, the names of topics and groups. */
final class Fixture {
    final Clients clients;
    final int bulkCount;
    private final Flags flags;
    private final Closing closing = new Closing();
    private volatile Producer producer;

    /** The names are the flags that must be there. */
    Fixture(Flags flags, String... names) throws UsageException {
        this.flags = flags;
        clients = new Clients(flags);
        bulkCount = flags.integer("count", 10_000);
        for (String name : names) {
            flags.required(name);
        }
    }

    /** The topic or group of a flag. */
    String name(String flag) {
        return flags.values().get(flag);
    }

    /** The topic that only the named check uses. */
    String topic(String check) {
        return name("topic") + "-" + check;
    }

    /** The group that only the named check uses. */
    String group(String check) {
        return name("group") + "-" + check;
    }

    synchronized Producer producer() throws ClientException {
        if (producer == null) {
            producer = clients.producer(name("topic"));
        }
        return producer;
    }

    /** Sends and returns the message id. */
    String send(String topic, String body) throws ClientException {
        SendReceipt receipt = producer().send(clients.message(topic, body));
        return receipt.getMessageId().toString();
    }

    /** Sends {@code prefix-0} to {@code prefix-(count-1)} one by one; returns the bodies. */
    List<String> sendMany(String topic, String prefix, int count) throws ClientException {
        List<String> bodies = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            String body = prefix + "-" + i;
            send(topic, body);
            bodies.add(body);
        }
        return bodies;
    }

    /** For push consumers, which take long to close. */
    void closeInBackground(Closeable client) {
        closing.start(client);
    }

    void close() throws InterruptedException {
        if (producer != null) {
            closing.start(producer);
        }
        closing.await();
    }
}
