package main

import (
	"fmt"
	"slices"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// retryBackoff: the group has 3 attempts, 1 s and 2 s apart.
func (f *fixture) retryBackoff() (string, error) {
	backoff := []time.Duration{time.Second, 2 * time.Second}
	topic := f.checkTopic("retry-backoff")
	var came arrivals
	consumer, err := startPushConsumer(f.endpoint, f.checkGroup("retry-backoff"), topic,
		func(message *rmq.MessageView) rmq.ConsumerResult {
			came.add(message)
			return rmq.FAILURE
		})
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	id, err := f.send(&rmq.Message{Topic: topic, Body: []byte("poison")})
	if err != nil {
		return "", err
	}
	if err := came.await(len(backoff) + 1); err != nil {
		return "", err
	}
	if err := f.expectDeadLetter("retry-backoff", id); err != nil {
		return "", err
	}
	if !slices.Equal(came.attempts(), []int32{1, 2, 3}) {
		return "", fmt.Errorf("attempts %v", came.attempts())
	}
	all := came.soFar()
	var gaps []time.Duration
	for i, least := range backoff {
		gap := all[i+1].at.Sub(all[i].at).Round(time.Millisecond)
		if gap < least || gap > least+latest {
			return "", fmt.Errorf("attempt %d after %v", i+2, gap)
		}
		gaps = append(gaps, gap)
	}
	return fmt.Sprintf("attempts %v after %v, then the dead-letter topic",
		came.attempts(), gaps), nil
}
