package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	checkMessages       = 20
	maxBodyBytes        = 4 << 20
	topicNotFound       = 40402
	messageBodyTooLarge = 41301
)

func (f *fixture) sendSync() (string, error) {
	ids := make(map[string]bool)
	for i := range checkMessages {
		id, err := f.send(&rmq.Message{Topic: f.topic, Body: fmt.Appendf(nil, "send_sync-%d", i)})
		if err != nil {
			return "", err
		}
		ids[id] = true
	}
	return sentDetail(ids)
}

func (f *fixture) sendAsync() (string, error) {
	producer, err := f.sharedProducer()
	if err != nil {
		return "", err
	}
	type result struct {
		receipts []*rmq.SendReceipt
		err      error
	}
	results := make(chan result, checkMessages)
	for i := range checkMessages {
		message := &rmq.Message{Topic: f.topic, Body: fmt.Appendf(nil, "send_async-%d", i)}
		producer.SendAsync(context.Background(), message,
			func(_ context.Context, receipts []*rmq.SendReceipt, err error) {
				results <- result{receipts, err}
			})
	}
	ids := make(map[string]bool)
	for range checkMessages {
		r := <-results
		if r.err != nil {
			return "", r.err
		}
		ids[r.receipts[0].MessageID] = true
	}
	return sentDetail(ids)
}

func sentDetail(ids map[string]bool) (string, error) {
	if len(ids) != checkMessages {
		return "", fmt.Errorf("only %d different message ids", len(ids))
	}
	return fmt.Sprintf("%d sent", checkMessages), nil
}

func (f *fixture) unknownTopic() (string, error) {
	// Not the shared producer: the client declares each topic it was asked to send to in its
	// settings from then on.
	producer, err := startProducer(f.endpoint, f.topic)
	if err != nil {
		return "", err
	}
	defer stop(producer)
	topic := f.checkTopic("unknown")
	_, err = send(producer, &rmq.Message{Topic: topic, Body: []byte("unknown_topic")})
	if err == nil {
		return "", fmt.Errorf("a message to %s was accepted", topic)
	}
	if code(err) != topicNotFound {
		return "", fmt.Errorf("not TOPIC_NOT_FOUND but %w", err)
	}
	return err.Error(), nil
}

func (f *fixture) bodyTooLarge() (string, error) {
	_, err := f.send(&rmq.Message{Topic: f.topic, Body: make([]byte, maxBodyBytes+1)})
	switch {
	case err == nil:
		return "", errors.New("a body of 4 MiB + 1 byte was accepted")
	case code(err) == messageBodyTooLarge:
		return "refused by the server: " + err.Error(), nil
	case strings.Contains(err.Error(), "body size exceeds the threshold"):
		// The limit is the server's all the same: the client has it from the settings.
		return "refused by the client: " + err.Error(), nil
	default:
		return "", fmt.Errorf("refused for another reason: %w", err)
	}
}
