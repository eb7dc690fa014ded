package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	// shortInvisible is the shortest invisible duration that Apache RocketMQ accepts.
	shortInvisible = 10 * time.Second
	receiveBatch   = 16
	// patience: a message should come within one long poll; the rest is for a busy machine.
	patience = 60 * time.Second
)

// collect receives and acks everything until count messages that are wanted came.
func collect(consumer rmq.SimpleConsumer, count int,
	wanted func(*rmq.MessageView) bool) ([]*rmq.MessageView, error) {
	var collected []*rmq.MessageView
	deadline := time.Now().Add(patience)
	for len(collected) < count {
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("received %d of %d messages within %v",
				len(collected), count, patience)
		}
		messages, err := receiveAndAck(consumer, receiveBatch)
		if err != nil {
			return nil, err
		}
		for _, message := range messages {
			if wanted(message) {
				collected = append(collected, message)
			}
		}
	}
	return collected, nil
}

// expectNone receives and acks everything for the whole period, and fails when an unwanted
// message comes.
func expectNone(consumer rmq.SimpleConsumer, period time.Duration,
	unwanted func(*rmq.MessageView) bool) error {
	end := time.Now().Add(period)
	for time.Now().Before(end) {
		messages, err := receiveAndAck(consumer, receiveBatch)
		if err != nil {
			return err
		}
		for _, message := range messages {
			if unwanted(message) {
				return fmt.Errorf("unexpected message %s, attempt %d",
					message.GetBody(), message.GetDeliveryAttempt())
			}
		}
	}
	return nil
}

// receiveAndAck acks what it returns. The client's Ack fails only when the call does: it ignores
// the status in the server's reply.
func receiveAndAck(consumer rmq.SimpleConsumer, limit int32) ([]*rmq.MessageView, error) {
	messages, err := receive(consumer, limit, shortInvisible)
	for _, message := range messages {
		if err := consumer.Ack(context.Background(), message); err != nil {
			return nil, err
		}
	}
	return messages, err
}

// receiveOne receives one message, without ack.
func receiveOne(consumer rmq.SimpleConsumer, invisible time.Duration) (*rmq.MessageView, error) {
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		messages, err := receive(consumer, 1, invisible)
		if err != nil {
			return nil, err
		}
		if len(messages) > 0 {
			return messages[0], nil
		}
	}
	return nil, fmt.Errorf("no message within %v", patience)
}

// expectEachOnce fails unless the bodies are the expected ones, each once, in any order.
func expectEachOnce(bodies, expected []string) error {
	got, want := slices.Sorted(slices.Values(bodies)), slices.Sorted(slices.Values(expected))
	if !slices.Equal(got, want) {
		return fmt.Errorf("received %d messages instead of %d: %v", len(got), len(want), got)
	}
	return nil
}

func texts(messages []*rmq.MessageView) []string {
	var bodies []string
	for _, message := range messages {
		bodies = append(bodies, string(message.GetBody()))
	}
	return bodies
}

func anyMessage(*rmq.MessageView) bool { return true }
