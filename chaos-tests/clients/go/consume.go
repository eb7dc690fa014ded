package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	receivers = 4
	// consumeBatch is small, so that the last message of a batch is acked before it becomes
	// visible again.
	consumeBatch     = 8
	consumeInvisible = 30 * time.Second
	errorPause       = 200 * time.Millisecond
)

// delivery is the log's line of one consumed message.
type delivery struct {
	TimeMS  int64  `json:"t_ms"`
	Value   string `json:"v"`
	ID      string `json:"id"`
	Attempt int32  `json:"attempt"`
	Acked   bool   `json:"acked"`
}

// sink is one run of the command consume.
type sink struct {
	stopped  context.Context
	log      *jsonLines
	received atomic.Int64
	errors   atomic.Int64
}

// consume consumes and acks until told to stop, through whatever happens to the brokers.
func consume(args []string) (bool, error) {
	var group, mode, logFile string
	flags := newFlags("consume")
	flags.StringVar(&group, "group", "", "consumer group")
	flags.StringVar(&mode, "mode", "", "push or simple")
	flags.StringVar(&logFile, "log", "", "file to append deliveries to")
	if err := flags.parse(args, "group", "mode", "log"); err != nil {
		return false, err
	}
	stopped, cancel := stopRequest()
	defer cancel()
	stopWhenStdinCloses(cancel)
	log, err := openJSONLines(logFile)
	if err != nil {
		return false, err
	}
	s := &sink{stopped: stopped, log: log}
	switch mode {
	case "push":
		err = s.push(flags.endpoint, group, flags.topic)
	case "simple":
		err = s.simple(flags.endpoint, group, flags.topic)
	default:
		return false, fmt.Errorf("%w: --mode is push or simple", errUsage)
	}
	fmt.Fprintf(os.Stderr, "{\"received\":%d,\"errors\":%d}\n", s.received.Load(), s.errors.Load())
	return true, err
}

func (s *sink) push(endpoint, group, topic string) error {
	consumer, err := startPushConsumer(endpoint, group, topic,
		func(message *rmq.MessageView) rmq.ConsumerResult {
			// The client acks by itself after the return, and repeats the ack until it succeeds.
			s.record(message)
			return rmq.SUCCESS
		})
	if err != nil {
		return err
	}
	fmt.Println("READY")
	<-s.stopped.Done()
	stopWithin(consumer, closeLimit)
	return nil
}

func (s *sink) simple(endpoint, group, topic string) error {
	consumer, err := startSimpleConsumer(endpoint, group, topic, "*")
	if err != nil {
		return err
	}
	fmt.Println("READY")
	var running sync.WaitGroup
	for range receivers {
		running.Add(1)
		go func() {
			defer running.Done()
			s.receiveUntilStopped(consumer)
		}()
	}
	running.Wait()
	stopWithin(consumer, closeLimit)
	return nil
}

func (s *sink) receiveUntilStopped(consumer rmq.SimpleConsumer) {
	for s.stopped.Err() == nil {
		messages, err := receive(consumer, consumeBatch, consumeInvisible)
		if err != nil {
			s.countError("receive", err)
		}
		for _, message := range messages {
			// The client ignores the status in the server's reply, so this "acked" only says that
			// the call itself went through.
			if err := consumer.Ack(context.Background(), message); err != nil {
				s.countError("ack", err)
				continue
			}
			s.record(message)
		}
	}
}

func (s *sink) record(message *rmq.MessageView) {
	s.received.Add(1)
	s.log.append(delivery{
		TimeMS:  time.Now().UnixMilli(),
		Value:   string(message.GetBody()),
		ID:      message.GetMessageId(),
		Attempt: message.GetDeliveryAttempt(),
		Acked:   true,
	})
}

func (s *sink) countError(operation string, err error) {
	s.errors.Add(1)
	fmt.Fprintf(os.Stderr, "%s: %v\n", operation, err)
	// A broker that is away refuses at once: do not spin.
	select {
	case <-s.stopped.Done():
	case <-time.After(errorPause):
	}
}

// stopWithin does not wait for a server that does not answer.
func stopWithin(client stopper, limit time.Duration) {
	done := make(chan struct{})
	go func() {
		stop(client)
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
		fmt.Fprintf(os.Stderr, "the client was still stopping after %v\n", limit)
	}
}
