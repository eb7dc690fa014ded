package main

import (
	"fmt"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// expectDeadLetter fails unless the message comes from the dead-letter topic of the check's group,
// which is read as an ordinary topic.
func (f *fixture) expectDeadLetter(check, id string) error {
	topic := "%DLQ%" + f.checkGroup(check)
	consumer, err := f.startWhenItExists(f.checkGroup(check+"-reader"), topic)
	if err != nil {
		return err
	}
	defer stop(consumer)
	_, err = collect(consumer, 1, func(m *rmq.MessageView) bool { return m.GetMessageId() == id })
	return err
}

// startWhenItExists consumes from a topic that is made with its first message.
func (f *fixture) startWhenItExists(group, topic string) (rmq.SimpleConsumer, error) {
	deadline := time.Now().Add(featureArrival)
	for {
		consumer, err := startSimpleConsumer(f.endpoint, group, topic, "*")
		if err == nil {
			return consumer, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no topic %s: %w", topic, err)
		}
		time.Sleep(500 * time.Millisecond)
	}
}
