package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	deliveryDelay = 4 * time.Second
	// latest: the promise is far less; the rest is for a busy machine.
	latest = 3 * time.Second
)

func (f *fixture) delay() (string, error) {
	topic := f.checkTopic("delay")
	consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("delay"), topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	sent := time.Now()
	due := sent.Add(deliveryDelay)
	if _, err := f.sendAt(topic, "future", due); err != nil {
		return "", err
	}
	if _, err := f.sendAt(topic, "past", sent.Add(-time.Minute)); err != nil {
		return "", err
	}
	var came arrivals
	if err := came.receiveCount(consumer, 2); err != nil {
		return "", err
	}
	if !slices.Equal(came.bodies(), []string{"past", "future"}) {
		return "", fmt.Errorf("came as %v", came.bodies())
	}
	past, late := came.soFar()[0].at.Sub(sent), came.soFar()[1].at.Sub(due)
	if past > latest || late < 0 || late > latest {
		return "", fmt.Errorf("came %v after its time; from the past after %v", late, past)
	}
	return fmt.Sprintf("came %v after its time; from the past after %v",
		late.Round(time.Millisecond), past.Round(time.Millisecond)), nil
}

func (f *fixture) recall() (string, error) {
	topic := f.checkTopic("recall")
	consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("recall"), topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	due := time.Now().Add(deliveryDelay)
	recalled, err := f.sendAt(topic, "recalled", due)
	if err != nil {
		return "", err
	}
	kept, err := f.sendAt(topic, "kept", due)
	if err != nil {
		return "", err
	}
	// Twice: as after an answer that got lost.
	for range 2 {
		id, err := f.producer.Recall(context.Background(), topic, recalled.RecallHandle)
		if err != nil {
			return "", err
		}
		if id != recalled.MessageID {
			return "", fmt.Errorf("recalled %s instead of %s", id, recalled.MessageID)
		}
	}
	var came arrivals
	if err := came.receiveCount(consumer, 1); err != nil {
		return "", err
	}
	time.Sleep(time.Second)
	if err := came.receiveFor(consumer, time.Second); err != nil {
		return "", err
	}
	if !slices.Equal(came.bodies(), []string{"kept"}) {
		return "", fmt.Errorf("came: %v", came.bodies())
	}
	_, err = f.producer.Recall(context.Background(), topic, kept.RecallHandle)
	if err == nil {
		return "", errors.New("recalled what was delivered")
	}
	return fmt.Sprintf("only the other one came; recalled after delivery: code %d", code(err)), nil
}

// sendAt sends a message that is to be delivered at that time.
func (f *fixture) sendAt(topic, body string, due time.Time) (*rmq.SendReceipt, error) {
	producer, err := f.sharedProducer()
	if err != nil {
		return nil, err
	}
	message := &rmq.Message{Topic: topic, Body: []byte(body)}
	message.SetDelayTimestamp(due)
	receipts, err := producer.Send(context.Background(), message)
	if err != nil {
		return nil, err
	}
	return receipts[0], nil
}
