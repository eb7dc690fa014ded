package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	invalidReceiptHandle = 40013
	longInvisible        = 30 * time.Second
	// Our clock starts when the reply has come, the server's before it was sent.
	earliestReturn = shortInvisible - 2*time.Second
	// Apache RocketMQ itself comes up to 6 s late.
	latestReturn = shortInvisible + 12*time.Second
)

func (f *fixture) redelivery() (string, error) {
	topic := f.checkTopic("redeliver")
	id, err := f.send(&rmq.Message{Topic: topic, Body: []byte("redelivery")})
	if err != nil {
		return "", err
	}
	consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("redeliver"), topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	if _, err := receiveAttempt(consumer, shortInvisible, id, 1); err != nil {
		return "", err
	}
	elapsed, err := expectReturn(consumer, id)
	return fmt.Sprintf("came again after %v as attempt 2", elapsed), err
}

func (f *fixture) changeInvisible() (string, error) {
	topic := f.checkTopic("invisible")
	id, err := f.send(&rmq.Message{Topic: topic, Body: []byte("change_invisible")})
	if err != nil {
		return "", err
	}
	consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("invisible"), topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	message, err := receiveAttempt(consumer, longInvisible, id, 1)
	if err != nil {
		return "", err
	}
	oldHandle := message.GetReceiptHandle()
	if err := consumer.ChangeInvisibleDuration(message, shortInvisible); err != nil {
		return "", err
	}
	changed := time.Now()
	if message.GetReceiptHandle() == oldHandle {
		return "", errors.New("the receipt handle stayed the same")
	}
	// A repetition, as after an answer that got lost: it is made again, and gets the same handle.
	newHandle := message.GetReceiptHandle()
	message.ReceiptHandle = oldHandle
	if err := consumer.ChangeInvisibleDuration(message, shortInvisible); err != nil {
		return "", err
	}
	if message.GetReceiptHandle() != newHandle {
		return "", errors.New("the repeated change got another receipt handle")
	}
	if _, err := expectReturn(consumer, id); err != nil {
		return "", err
	}
	elapsed := time.Since(changed).Round(time.Millisecond)
	// Not through Ack: the client ignores the status in its reply.
	message.ReceiptHandle = oldHandle
	err = consumer.ChangeInvisibleDuration(message, longInvisible)
	switch {
	case err == nil:
		return "", errors.New("a change with a receipt handle of an earlier delivery was accepted")
	case code(err) != invalidReceiptHandle:
		return "", fmt.Errorf("change with a receipt handle of an earlier delivery: %w", err)
	}
	return fmt.Sprintf("came again after %v; then the old handle: INVALID_RECEIPT_HANDLE",
		elapsed), nil
}

// expectReturn waits until the message is visible again, acks it and returns how long it took.
func expectReturn(consumer rmq.SimpleConsumer, id string) (time.Duration, error) {
	start := time.Now()
	message, err := receiveAttempt(consumer, shortInvisible, id, 2)
	if err != nil {
		return 0, err
	}
	elapsed := time.Since(start).Round(time.Millisecond)
	if elapsed < earliestReturn || elapsed > latestReturn {
		return 0, fmt.Errorf("came again after %v", elapsed)
	}
	return elapsed, consumer.Ack(context.Background(), message)
}

func receiveAttempt(consumer rmq.SimpleConsumer, invisible time.Duration, id string,
	attempt int32) (*rmq.MessageView, error) {
	message, err := receiveOne(consumer, invisible)
	if err != nil {
		return nil, err
	}
	if message.GetMessageId() != id || message.GetDeliveryAttempt() != attempt {
		return nil, fmt.Errorf("received %s, attempt %d, instead of %s, attempt %d",
			message.GetMessageId(), message.GetDeliveryAttempt(), id, attempt)
	}
	return message, nil
}
