package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	sharedMessages = 60
	// quiet is how long a message that should not come gets to show up.
	quiet = 5 * time.Second
)

func (f *fixture) simpleConsumeAck() (string, error) {
	sent, err := f.sendMany(f.topic, "simple_consume_ack", checkMessages)
	if err != nil {
		return "", err
	}
	consumer, err := startSimpleConsumer(f.endpoint, f.group, f.topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	// Other checks send to this topic too.
	own := func(m *rmq.MessageView) bool {
		return strings.HasPrefix(string(m.GetBody()), "simple_consume_ack-")
	}
	received, err := collect(consumer, checkMessages, own)
	if err != nil {
		return "", err
	}
	if err := expectEachOnce(texts(received), sent); err != nil {
		return "", err
	}
	err = expectNone(consumer, shortInvisible+3*time.Second, func(m *rmq.MessageView) bool {
		return own(m) || m.GetDeliveryAttempt() > 1
	})
	return fmt.Sprintf("%d received and acked, none came again", checkMessages), err
}

func (f *fixture) tagFilter() (string, error) {
	topic := f.checkTopic("tag")
	var expected []string
	for i := range checkMessages {
		for _, tag := range []string{"a", "b", "c"} {
			body := fmt.Sprintf("%s-%d", tag, i)
			message := &rmq.Message{Topic: topic, Body: []byte(body)}
			message.SetTag(tag)
			if _, err := f.send(message); err != nil {
				return "", err
			}
			if tag != "c" {
				expected = append(expected, body)
			}
		}
	}
	consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("tag"), topic, "a || b")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	received, err := collect(consumer, len(expected), anyMessage)
	if err != nil {
		return "", err
	}
	if err := expectEachOnce(texts(received), expected); err != nil {
		return "", err
	}
	for _, message := range received {
		tag := message.GetTag()
		if tag == nil || !strings.HasPrefix(string(message.GetBody()), *tag) {
			return "", fmt.Errorf("%s came with another tag", message.GetBody())
		}
	}
	err = expectNone(consumer, quiet, anyMessage)
	return fmt.Sprintf("%d of %d received", len(expected), 3*checkMessages), err
}

func (f *fixture) twoGroups() (string, error) {
	sent, err := f.sendMany(f.topic2, "two_groups", checkMessages)
	if err != nil {
		return "", err
	}
	for _, group := range []string{f.group, f.group2} {
		if err := f.expectAllInGroup(group, sent); err != nil {
			return "", fmt.Errorf("group %s: %w", group, err)
		}
	}
	return fmt.Sprintf("each group received %d", checkMessages), nil
}

func (f *fixture) expectAllInGroup(group string, sent []string) error {
	consumer, err := startSimpleConsumer(f.endpoint, group, f.topic2, "*")
	if err != nil {
		return err
	}
	defer stop(consumer)
	received, err := collect(consumer, len(sent), anyMessage)
	if err != nil {
		return err
	}
	return expectEachOnce(texts(received), sent)
}

func (f *fixture) sharedGroup() (string, error) {
	topic := f.checkTopic("shared")
	share := &sharing{complete: make(chan struct{})}
	var members sync.WaitGroup
	for i := range share.counts {
		consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("shared"), topic, "*")
		if err != nil {
			return "", err
		}
		defer stop(consumer)
		members.Add(1)
		go func() {
			defer members.Done()
			share.receiveUntilEnded(i, consumer)
		}()
	}
	sent, err := f.sendMany(topic, "shared_group", sharedMessages)
	if err == nil {
		select {
		case <-share.complete:
		case <-time.After(patience):
		}
		// A copy for both members would come about now.
		time.Sleep(quiet)
	}
	share.end(err)
	members.Wait()
	if share.err != nil {
		return "", share.err
	}
	if err := expectEachOnce(share.bodies, sent); err != nil {
		return "", err
	}
	detail := fmt.Sprintf("the members received %d and %d", share.counts[0], share.counts[1])
	if share.counts[0] == 0 || share.counts[1] == 0 {
		return "", fmt.Errorf("%s", detail)
	}
	return detail, nil
}

// sharing is what the two members of a group received together.
type sharing struct {
	complete chan struct{}

	mutex  sync.Mutex
	counts [2]int
	bodies []string
	ended  bool
	err    error
}

// receiveUntilEnded receives a few at a time, so that the other member gets a share.
func (s *sharing) receiveUntilEnded(member int, consumer rmq.SimpleConsumer) {
	for {
		messages, err := receiveAndAck(consumer, 2)
		if err != nil {
			s.end(err)
		}
		if s.addAndCheckEnd(member, messages) {
			return
		}
	}
}

func (s *sharing) addAndCheckEnd(member int, messages []*rmq.MessageView) bool {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	before := len(s.bodies)
	s.counts[member] += len(messages)
	s.bodies = append(s.bodies, texts(messages)...)
	if before < sharedMessages && len(s.bodies) >= sharedMessages {
		close(s.complete)
	}
	return s.ended
}

// end makes the members stop after their receive under way.
func (s *sharing) end(err error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.ended = true
	if s.err == nil {
		s.err = err
	}
}

func (f *fixture) propertiesAndKeys() (string, error) {
	body := make([]byte, 1024)
	for i := range body {
		body[i] = byte(i)
	}
	properties := map[string]string{"plain": "value", "unicode": "größer 大 🚀",
		"signs": `a=b;c|d "e" \ {}`, "number": "42"}
	message := &rmq.Message{Topic: f.topic, Body: body}
	message.SetTag("the-tag")
	message.SetKeys("key-1", "key-2")
	for key, value := range properties {
		message.AddProperty(key, value)
	}
	id, err := f.send(message)
	if err != nil {
		return "", err
	}
	consumer, err := startSimpleConsumer(f.endpoint, f.group, f.topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	found, err := collect(consumer, 1, func(m *rmq.MessageView) bool {
		return m.GetMessageId() == id
	})
	if err != nil {
		return "", err
	}
	received := found[0]
	keys := slices.Sorted(slices.Values(received.GetKeys()))
	switch {
	case !bytes.Equal(received.GetBody(), body):
		return "", fmt.Errorf("the body is %q", received.GetBody())
	case received.GetTag() == nil || *received.GetTag() != "the-tag":
		return "", fmt.Errorf("the tag is not the-tag")
	case !slices.Equal(keys, []string{"key-1", "key-2"}):
		return "", fmt.Errorf("the keys are %q", keys)
	case !maps.Equal(received.GetProperties(), properties):
		return "", fmt.Errorf("the properties are %q", received.GetProperties())
	case received.GetTopic() != f.topic:
		return "", fmt.Errorf("the topic is %s", received.GetTopic())
	case *received.GetBornHost() == "":
		return "", fmt.Errorf("no born host")
	}
	return fmt.Sprintf("message %s came unchanged", id), nil
}
