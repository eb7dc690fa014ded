package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// priority: out of a backlog, higher ones come first.
func (f *fixture) priority() (string, error) {
	const priorities, count = 3, 12
	// Smaller than the messages of one priority, so that more than one receive is needed.
	const batch = 3
	topic := f.checkTopic("priority")
	for i := range count {
		// The client's MessageView has no priority.
		priority := int32(1 + i%priorities)
		message := &rmq.Message{Topic: topic, Body: fmt.Appendf(nil, "%d", priority)}
		if err := message.SetPriority(priority); err != nil {
			return "", err
		}
		if _, err := f.send(message); err != nil {
			return "", err
		}
	}
	consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("priority"), topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	var received []string
	deadline := time.Now().Add(featureArrival)
	for len(received) < count {
		if time.Now().After(deadline) {
			return "", fmt.Errorf("only %v came", received)
		}
		messages, err := receive(consumer, batch, shortInvisible)
		if err != nil {
			return "", err
		}
		for _, message := range messages {
			received = append(received, string(message.GetBody()))
			if err := consumer.Ack(context.Background(), message); err != nil {
				return "", err
			}
		}
	}
	detail := "came as " + strings.Join(received, " ")
	if !slices.IsSortedFunc(received, func(a, b string) int { return strings.Compare(b, a) }) {
		return "", fmt.Errorf("%s", detail)
	}
	return detail, nil
}
