package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// featureArrival is how long what must come may take, on a busy machine.
const featureArrival = 30 * time.Second

// arrival is one delivery.
type arrival struct {
	body    string
	id      string
	attempt int32
	at      time.Time
}

// arrivals are what came, in the order it did, from any goroutine.
type arrivals struct {
	mutex sync.Mutex
	all   []arrival
}

func (a *arrivals) add(message *rmq.MessageView) arrival {
	one := arrival{
		body:    string(message.GetBody()),
		id:      message.GetMessageId(),
		attempt: message.GetDeliveryAttempt(),
		at:      time.Now(),
	}
	a.mutex.Lock()
	defer a.mutex.Unlock()
	a.all = append(a.all, one)
	return one
}

// succeed is a listener.
func (a *arrivals) succeed(message *rmq.MessageView) rmq.ConsumerResult {
	a.add(message)
	return rmq.SUCCESS
}

func (a *arrivals) soFar() []arrival {
	a.mutex.Lock()
	defer a.mutex.Unlock()
	return append([]arrival(nil), a.all...)
}

func (a *arrivals) bodies() []string {
	var bodies []string
	for _, one := range a.soFar() {
		bodies = append(bodies, one.body)
	}
	return bodies
}

func (a *arrivals) attempts() []int32 {
	var attempts []int32
	for _, one := range a.soFar() {
		attempts = append(attempts, one.attempt)
	}
	return attempts
}

// await waits until so many have come through a listener.
func (a *arrivals) await(count int) error {
	deadline := time.Now().Add(featureArrival)
	for len(a.soFar()) < count {
		if time.Now().After(deadline) {
			return fmt.Errorf("only %v came within %v", a.bodies(), featureArrival)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil
}

// receive receives, notes and acks until the condition holds.
func (a *arrivals) receive(consumer rmq.SimpleConsumer, until func() bool) error {
	deadline := time.Now().Add(featureArrival)
	for !until() {
		if time.Now().After(deadline) {
			return fmt.Errorf("only %v came within %v", a.bodies(), featureArrival)
		}
		messages, err := receive(consumer, receiveBatch, shortInvisible)
		if err != nil {
			return err
		}
		for _, message := range messages {
			// Before the ack, after which another consumer may get what comes next.
			a.add(message)
			if err := consumer.Ack(context.Background(), message); err != nil {
				return err
			}
		}
	}
	return nil
}

// receiveCount receives until so many have come.
func (a *arrivals) receiveCount(consumer rmq.SimpleConsumer, count int) error {
	return a.receive(consumer, func() bool { return len(a.soFar()) >= count })
}

// receiveFor receives for the whole period.
func (a *arrivals) receiveFor(consumer rmq.SimpleConsumer, period time.Duration) error {
	end := time.Now().Add(period)
	return a.receive(consumer, func() bool { return time.Now().After(end) })
}
