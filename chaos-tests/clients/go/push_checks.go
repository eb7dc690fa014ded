package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	bulkBodyBytes = 256
	bulkSenders   = 64
	bulkArrival   = 300 * time.Second
)

func (f *fixture) pushConsume() (string, error) {
	t := newTally(checkMessages)
	consumer, err := startPushConsumer(f.endpoint, f.checkGroup("push"), f.checkTopic("push"),
		t.consume)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	if _, err := f.sendMany(f.checkTopic("push"), "push_consume", checkMessages); err != nil {
		return "", err
	}
	_, err = t.awaitAll(patience)
	return fmt.Sprintf("%d received once", checkMessages), err
}

func (f *fixture) bulk() (string, error) {
	t := newTally(f.bulkCount)
	consumer, err := startPushConsumer(f.endpoint, f.checkGroup("bulk"), f.checkTopic("bulk"),
		t.consume)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	start := time.Now()
	if err := f.sendBulk(); err != nil {
		return "", err
	}
	sent := time.Since(start)
	end, err := t.awaitAll(bulkArrival)
	if err != nil {
		return "", err
	}
	count := float64(f.bulkCount)
	return fmt.Sprintf("%d messages: 0 lost, 0 duplicates; sent %.0f/s, consumed %.0f/s",
		f.bulkCount, count/sent.Seconds(), count/end.Sub(start).Seconds()), nil
}

func (f *fixture) sendBulk() error {
	numbers := make(chan int)
	failures := make(chan error, bulkSenders)
	var senders sync.WaitGroup
	for range bulkSenders {
		senders.Add(1)
		go func() {
			defer senders.Done()
			for i := range numbers {
				head := fmt.Sprintf("bulk-%d-", i)
				body := head + strings.Repeat("x", bulkBodyBytes-len(head))
				message := &rmq.Message{Topic: f.checkTopic("bulk"), Body: []byte(body)}
				if _, err := f.send(message); err != nil {
					failures <- fmt.Errorf("a send failed: %w", err)
					return
				}
			}
		}()
	}
	defer senders.Wait()
	defer close(numbers)
	for i := range f.bulkCount {
		select {
		case numbers <- i:
		case err := <-failures:
			return err
		}
	}
	return nil
}

// tally counts the deliveries of each body.
type tally struct {
	expected int
	complete chan struct{}

	mutex      sync.Mutex
	seen       map[string]bool
	duplicates int
}

func newTally(expected int) *tally {
	return &tally{expected: expected, complete: make(chan struct{}), seen: make(map[string]bool)}
}

func (t *tally) consume(message *rmq.MessageView) rmq.ConsumerResult {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	body := string(message.GetBody())
	if t.seen[body] {
		t.duplicates++
		return rmq.SUCCESS
	}
	t.seen[body] = true
	if len(t.seen) == t.expected {
		close(t.complete)
	}
	return rmq.SUCCESS
}

// awaitAll fails unless all come within the limit, and none twice until a while later. It returns
// when the last one came.
func (t *tally) awaitAll(limit time.Duration) (time.Time, error) {
	select {
	case <-t.complete:
	case <-time.After(limit):
	}
	end := time.Now()
	time.Sleep(quiet)
	t.mutex.Lock()
	defer t.mutex.Unlock()
	if len(t.seen) != t.expected || t.duplicates > 0 {
		return end, fmt.Errorf("%d messages: %d lost, %d duplicates",
			t.expected, t.expected-len(t.seen), t.duplicates)
	}
	return end, nil
}
