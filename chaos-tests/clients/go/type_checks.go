package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const messagePropertyConflictWithType = 40014

var messageTypes = []string{"normal", "fifo", "delay", "transaction"}

// wrongType: each topic refuses the three types that it does not have.
func (f *fixture) wrongType() (string, error) {
	refused := 0
	for _, topicType := range messageTypes {
		topic := f.checkTopic("wrong-type-" + topicType)
		producer, err := startTypesProducer(f.endpoint, topic)
		if err != nil {
			return "", err
		}
		defer f.stopInBackground(producer)
		if err := sendOfType(producer, topic, topicType); err != nil {
			return "", fmt.Errorf("%s: %w", topic, err)
		}
		for _, messageType := range messageTypes {
			if messageType == topicType {
				continue
			}
			err := sendOfType(producer, topic, messageType)
			if err == nil {
				return "", fmt.Errorf("%s took a message of type %s", topic, messageType)
			}
			// By the client, which has the types from the route, or by the server.
			if code(err) != messagePropertyConflictWithType &&
				!strings.Contains(err.Error(), "not match with topic accept message types") {
				return "", fmt.Errorf("refused for another reason: %w", err)
			}
			refused++
		}
	}
	return fmt.Sprintf("%d of %d refused", refused, refused), nil
}

func (f *fixture) mixed() (string, error) {
	topic := f.checkTopic("mixed")
	producer, err := startTypesProducer(f.endpoint, topic)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(producer)
	consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("mixed"), topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	for _, messageType := range messageTypes {
		if err := sendOfType(producer, topic, messageType); err != nil {
			return "", fmt.Errorf("%s: %w", messageType, err)
		}
	}
	var came arrivals
	if err := came.receiveCount(consumer, len(messageTypes)); err != nil {
		return "", err
	}
	return "all four came", expectEachOnce(came.bodies(), messageTypes)
}

func startTypesProducer(endpoint, topic string) (rmq.Producer, error) {
	return startTransactionProducer(endpoint, topic,
		func(*rmq.MessageView) rmq.TransactionResolution { return rmq.UNKNOWN })
}

// sendOfType sends a message of this type; its body is the type.
func sendOfType(producer rmq.Producer, topic, messageType string) error {
	message := &rmq.Message{Topic: topic, Body: []byte(messageType)}
	switch messageType {
	case "fifo":
		message.SetMessageGroup("group")
	case "delay":
		message.SetDelayTimestamp(time.Now().Add(time.Second))
	case "transaction":
		transaction, err := beginTransaction(producer, topic, messageType)
		if err != nil {
			return err
		}
		return transaction.Commit()
	}
	_, err := producer.Send(context.Background(), message)
	return err
}
