package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	fifoEach = 8
	// unblockedLimit is well before red-0 becomes visible again.
	unblockedLimit = 8 * time.Second
)

var messageGroups = []string{"red", "green", "blue"}

// fifoOrderSimple has two consumers share the group; a message is noted before it is acked.
func (f *fixture) fifoOrderSimple() (string, error) {
	topic, group := f.checkTopic("fifo-order-simple"), f.checkGroup("fifo-order-simple")
	if err := f.sendInTurn(topic); err != nil {
		return "", err
	}
	var came arrivals
	done := make(chan error)
	const members = 2
	for range members {
		consumer, err := startSimpleConsumer(f.endpoint, group, topic, "*")
		if err != nil {
			return "", err
		}
		go func() { done <- came.receiveCount(consumer, fifoEach*len(messageGroups)) }()
	}
	var failures error
	for range members {
		failures = errors.Join(failures, <-done)
	}
	if failures != nil {
		return "", failures
	}
	return expectFifoOrder(came.bodies())
}

func (f *fixture) fifoOrderPush() (string, error) {
	topic := f.checkTopic("fifo-order-push")
	if err := f.sendInTurn(topic); err != nil {
		return "", err
	}
	var came arrivals
	consumer, err := startPushConsumer(f.endpoint, f.checkGroup("fifo-order-push"), topic,
		came.succeed)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	if err := came.await(fifoEach * len(messageGroups)); err != nil {
		return "", err
	}
	return expectFifoOrder(came.bodies())
}

// fifoBlocked does not ack red-0: green and blue go on, and red comes again, in order.
func (f *fixture) fifoBlocked() (string, error) {
	topic := f.checkTopic("fifo-blocked")
	consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("fifo-blocked"), topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	if _, err := f.sendInGroup(topic, "red", 0); err != nil {
		return "", err
	}
	if _, err := receiveOne(consumer, shortInvisible); err != nil {
		return "", err
	}
	out := time.Now()
	for i := range fifoEach {
		for _, messageGroup := range messageGroups {
			if messageGroup == "red" && i == 0 {
				continue
			}
			if _, err := f.sendInGroup(topic, messageGroup, i); err != nil {
				return "", err
			}
		}
	}
	var came arrivals
	if err := came.receiveCount(consumer, fifoEach*(len(messageGroups)-1)); err != nil {
		return "", err
	}
	unblocked := time.Since(out).Round(time.Millisecond)
	if unblocked > unblockedLimit {
		return "", fmt.Errorf("the others took %v", unblocked)
	}
	if slices.ContainsFunc(came.soFar(), arrival.isRed) {
		return "", fmt.Errorf("came while red-0 was out: %v", came.bodies())
	}
	if err := came.receiveCount(consumer, fifoEach*len(messageGroups)); err != nil {
		return "", err
	}
	again := came.soFar()[slices.IndexFunc(came.soFar(), arrival.isRed)]
	if again.body != "red-0" || again.attempt != 2 {
		return "", fmt.Errorf("came again first: %+v", again)
	}
	if _, err := expectFifoOrder(came.bodies()); err != nil {
		return "", err
	}
	return fmt.Sprintf("the others came within %v, then red in order, red-0 as attempt 2",
		unblocked), nil
}

func (a arrival) isRed() bool { return strings.HasPrefix(a.body, "red-") }

// fifoDeadLetter has a listener that fails for red-0. Meanwhile the other message groups go on; the
// later red messages come after its last attempt.
func (f *fixture) fifoDeadLetter() (string, error) {
	topic := f.checkTopic("fifo-dead-letter")
	var came, failed arrivals
	consumer, err := startPushConsumer(f.endpoint, f.checkGroup("fifo-dead-letter"), topic,
		func(message *rmq.MessageView) rmq.ConsumerResult {
			if came.add(message).body == "red-0" {
				failed.add(message)
				return rmq.FAILURE
			}
			return rmq.SUCCESS
		})
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	id, err := f.sendInGroup(topic, "red", 0)
	if err != nil {
		return "", err
	}
	if err := came.await(1); err != nil {
		return "", err
	}
	_, green := f.sendInGroup(topic, "green", 0)
	_, red1 := f.sendInGroup(topic, "red", 1)
	_, red2 := f.sendInGroup(topic, "red", 2)
	if err := errors.Join(green, red1, red2); err != nil {
		return "", err
	}
	expected := []string{"red-0", "green-0", "red-0", "red-0", "red-1", "red-2"}
	if err := came.await(len(expected)); err != nil {
		return "", err
	}
	if !slices.Equal(failed.attempts(), []int32{1, 2, 3}) {
		return "", fmt.Errorf("attempts %v", failed.attempts())
	}
	if !slices.Equal(came.bodies(), expected) {
		return "", fmt.Errorf("came as %v", came.bodies())
	}
	if err := f.expectDeadLetter("fifo-dead-letter", id); err != nil {
		return "", err
	}
	return fmt.Sprintf("attempts %v, then the dead-letter topic and the rest of its group",
		failed.attempts()), nil
}

// sendInTurn sends to all message groups in turn.
func (f *fixture) sendInTurn(topic string) error {
	for i := range fifoEach {
		for _, messageGroup := range messageGroups {
			if _, err := f.sendInGroup(topic, messageGroup, i); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendInGroup sends <message group>-<number> and returns the message id.
func (f *fixture) sendInGroup(topic, messageGroup string, number int) (string, error) {
	message := &rmq.Message{Topic: topic, Body: fmt.Appendf(nil, "%s-%d", messageGroup, number)}
	message.SetMessageGroup(messageGroup)
	return f.send(message)
}

func expectFifoOrder(bodies []string) (string, error) {
	for _, messageGroup := range messageGroups {
		var own, expected []string
		for _, body := range bodies {
			if strings.HasPrefix(body, messageGroup+"-") {
				own = append(own, body)
			}
		}
		for i := range fifoEach {
			expected = append(expected, fmt.Sprintf("%s-%d", messageGroup, i))
		}
		if !slices.Equal(own, expected) {
			return "", fmt.Errorf("came as %v", own)
		}
	}
	return fmt.Sprintf("%d in order in each message group", fifoEach*len(messageGroups)), nil
}
