package raftmq.driver;

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.HashMap;
import java.util.Map;
import org.apache.rocketmq.client.apis.ClientConfiguration;
import org.apache.rocketmq.client.apis.ClientConfigurationBuilder;
import org.apache.rocketmq.client.apis.ClientException;
import org.apache.rocketmq.client.apis.ClientServiceProvider;
import org.apache.rocketmq.client.apis.consumer.FilterExpression;
import org.apache.rocketmq.client.apis.consumer.LitePushConsumer;
import org.apache.rocketmq.client.apis.consumer.MessageListener;
import org.apache.rocketmq.client.apis.consumer.PushConsumer;
import org.apache.rocketmq.client.apis.consumer.SimpleConsumer;
import org.apache.rocketmq.client.apis.message.Message;
import org.apache.rocketmq.client.apis.message.MessageBuilder;
import org.apache.rocketmq.client.apis.message.MessageView;
import org.apache.rocketmq.client.apis.producer.Producer;
import org.apache.rocketmq.client.apis.producer.TransactionChecker;

/** Makes the official clients for one endpoint, with their defaults wherever they have one. */
final class Clients {
    /** The shortest long poll that Apache RocketMQ grants in full. */
    private static final Duration LONG_POLL = Duration.ofSeconds(5);

    private final ClientServiceProvider provider = ClientServiceProvider.loadService();
    private final ClientConfiguration configuration;

    Clients(Flags flags) throws UsageException {
        ClientConfigurationBuilder builder = ClientConfiguration.newBuilder()
            .setEndpoints(flags.required("endpoint"));
        flags.optional("tls").map(Boolean::parseBoolean).ifPresent(builder::enableSsl);
        configuration = builder.build();
    }

    Producer producer(String topic) throws ClientException {
        return provider.newProducerBuilder()
            .setClientConfiguration(configuration)
            .setTopics(topic)
            .build();
    }

    /** Can send transactional messages too, about which the server may ask the checker. */
    Producer transactionProducer(String topic, TransactionChecker checker)
        throws ClientException {
        return provider.newProducerBuilder()
            .setClientConfiguration(configuration)
            .setTopics(topic)
            .setTransactionChecker(checker)
            .build();
    }

    SimpleConsumer simpleConsumer(String group, String topic) throws ClientException {
        return simpleConsumer(group, topic, FilterExpression.SUB_ALL);
    }

    SimpleConsumer simpleConsumer(String group, String topic, FilterExpression filter)
        throws ClientException {
        return provider.newSimpleConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(group)
            .setAwaitDuration(LONG_POLL)
            .setSubscriptionExpressions(subscription(topic, filter))
            .build();
    }

    PushConsumer pushConsumer(String group, String topic, MessageListener listener)
        throws ClientException {
        return pushConsumer(group, topic, FilterExpression.SUB_ALL, listener);
    }

    PushConsumer pushConsumer(String group, String topic, FilterExpression filter,
        MessageListener listener) throws ClientException {
        return provider.newPushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(group)
            .setSubscriptionExpressions(subscription(topic, filter))
            .setMessageListener(listener)
            .build();
    }

    /** Gets nothing until it subscribes to lite topics of the topic. */
    LitePushConsumer litePushConsumer(String group, String topic, MessageListener listener)
        throws ClientException {
        return provider.newLitePushConsumerBuilder()
            .setClientConfiguration(configuration)
            .setConsumerGroup(group)
            .bindTopic(topic)
            .setMessageListener(listener)
            .build();
    }

    MessageBuilder newMessage(String topic, byte[] body) {
        return provider.newMessageBuilder().setTopic(topic).setBody(body);
    }

    Message message(String topic, String body) {
        return newMessage(topic, body.getBytes(StandardCharsets.UTF_8)).build();
    }

    static String text(MessageView message) {
        return StandardCharsets.UTF_8.decode(message.getBody()).toString();
    }

    /** The client writes to the map it is given, so it must be a mutable one. */
    private static Map<String, FilterExpression> subscription(String topic,
        FilterExpression filter) {
        Map<String, FilterExpression> subscription = new HashMap<>();
        subscription.put(topic, filter);
        return subscription;
    }
}
