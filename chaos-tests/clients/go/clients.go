package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
	"github.com/apache/rocketmq-clients/golang/v5/credentials"
	"go.uber.org/zap"
)

// longPoll is the shortest long poll that Apache RocketMQ grants in full.
const longPoll = 5 * time.Second

// messageNotFound is the code that an empty reply to a receive has: the client returns it as an
// error.
const messageNotFound = 40401

// setUpClientLibrary makes the library's process-wide choices: TLS (nil keeps its default) and
// where it logs.
func setUpClientLibrary(tls *bool) error {
	if tls != nil {
		rmq.EnableSsl = *tls
	}
	directory := os.Getenv("DRIVER_LOG_DIR")
	if directory == "" {
		directory = os.TempDir()
	}
	// One folder for each process: the library's rolling log file can not be shared.
	root := filepath.Join(directory, fmt.Sprintf("raftmq-go-driver-%d", os.Getpid()))
	for name, value := range map[string]string{
		rmq.CLIENT_LOG_ROOT:  root,
		rmq.CLIENT_LOG_LEVEL: "warn",
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	rmq.ResetLogger()

	// A second logger writes each call to a file of a fixed name that all processes share, and
	// can only be replaced for each connection.
	newRpcClient := rmq.NewRpcClient
	quiet := rmq.WithRpcClientConnOption(rmq.WithZapLogger(zap.NewNop()))
	rmq.NewRpcClient = func(target string, opts ...rmq.RpcClientOption) (rmq.RpcClient, error) {
		return newRpcClient(target, append(opts, quiet)...)
	}
	return nil
}

func config(endpoint, group string) *rmq.Config {
	return &rmq.Config{
		Endpoint:      endpoint,
		ConsumerGroup: group,
		Credentials:   &credentials.SessionCredentials{},
	}
}

// startProducer returns a running producer. It must declare a topic: one without never starts.
func startProducer(endpoint, topic string) (rmq.Producer, error) {
	producer, err := rmq.NewProducer(config(endpoint, ""), rmq.WithTopics(topic))
	if err != nil {
		return nil, err
	}
	return producer, producer.Start()
}

// startTransactionProducer returns a running producer that can send transactional messages too,
// about which the server may ask the checker.
func startTransactionProducer(endpoint, topic string,
	check func(*rmq.MessageView) rmq.TransactionResolution) (rmq.Producer, error) {
	producer, err := rmq.NewProducer(config(endpoint, ""), rmq.WithTopics(topic),
		rmq.WithTransactionChecker(&rmq.TransactionChecker{Check: check}))
	if err != nil {
		return nil, err
	}
	return producer, producer.Start()
}

func startSimpleConsumer(endpoint, group, topic, tags string) (rmq.SimpleConsumer, error) {
	return startFilteringConsumer(endpoint, group, topic, rmq.NewFilterExpression(tags))
}

func startFilteringConsumer(endpoint, group, topic string,
	filter *rmq.FilterExpression) (rmq.SimpleConsumer, error) {
	consumer, err := rmq.NewSimpleConsumer(config(endpoint, group),
		rmq.WithSimpleAwaitDuration(longPoll),
		rmq.WithSimpleSubscriptionExpressions(subscription(topic, filter)))
	if err != nil {
		return nil, err
	}
	return consumer, consumer.Start()
}

func startPushConsumer(endpoint, group, topic string,
	listener func(*rmq.MessageView) rmq.ConsumerResult) (rmq.PushConsumer, error) {
	return startFilteringPushConsumer(endpoint, group, topic, rmq.SUB_ALL, listener)
}

func startFilteringPushConsumer(endpoint, group, topic string, filter *rmq.FilterExpression,
	listener func(*rmq.MessageView) rmq.ConsumerResult) (rmq.PushConsumer, error) {
	consumer, err := rmq.NewPushConsumer(config(endpoint, group),
		rmq.WithPushSubscriptionExpressions(subscription(topic, filter)),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: listener}))
	if err != nil {
		return nil, err
	}
	return consumer, consumer.Start()
}

// startLiteConsumer returns a running consumer that gets nothing until it subscribes to lite topics
// of the topic. The client has no automatic renewal for it.
func startLiteConsumer(endpoint, group, topic string,
	listener func(*rmq.MessageView) rmq.ConsumerResult) (rmq.LitePushConsumer, error) {
	consumer, err := rmq.NewLitePushConsumer(config(endpoint, group),
		rmq.NewLitePushConsumerConfig(topic, shortInvisible),
		rmq.WithPushMessageListener(&rmq.FuncMessageListener{Consume: listener}))
	if err != nil {
		return nil, err
	}
	return consumer, consumer.Start()
}

func subscription(topic string, filter *rmq.FilterExpression) map[string]*rmq.FilterExpression {
	return map[string]*rmq.FilterExpression{topic: filter}
}

// send sends and returns the message id.
func send(producer rmq.Producer, message *rmq.Message) (string, error) {
	receipts, err := producer.Send(context.Background(), message)
	if err != nil {
		return "", err
	}
	return receipts[0].MessageID, nil
}

// receive returns no messages, rather than an error, when there are none.
func receive(consumer rmq.SimpleConsumer, limit int32,
	invisible time.Duration) ([]*rmq.MessageView, error) {
	messages, err := consumer.Receive(context.Background(), limit, invisible)
	if code(err) == messageNotFound {
		return nil, nil
	}
	return messages, err
}

// code is the server's status code, or 0 when the error does not come from a server's reply.
func code(err error) int32 {
	if status, ok := rmq.AsErrRpcStatus(err); ok {
		return status.GetCode()
	}
	return 0
}
