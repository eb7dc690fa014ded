package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	liteEach               = 8
	liteNameMax            = 64
	illegalLiteTopic       = 40020
	liteTopicQuotaExceeded = 42901
	liteQuotaExceeded      = 42902
	// synced: the client tells the server all its subscriptions every 30 s.
	synced = 33 * time.Second
	// suspendTime is what a listener suspends its lite topic for.
	suspendTime = 3 * time.Second
)

var liteTopics = []string{"red", "green", "blue"}

// litePush: of three lite topics it gets the two that it subscribed to.
func (f *fixture) litePush() (string, error) {
	topic := f.checkTopic("lite-push")
	var came, misnamed arrivals
	consumer, err := startLiteConsumer(f.endpoint, f.checkGroup("lite-push"), topic,
		func(message *rmq.MessageView) rmq.ConsumerResult {
			if !strings.HasPrefix(came.add(message).body, message.GetLiteTopic()+"-") {
				misnamed.add(message)
			}
			return rmq.SUCCESS
		})
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	if err := subscribeLite(consumer, "red", "green"); err != nil {
		return "", err
	}
	if err := f.sendToLiteTopics(topic); err != nil {
		return "", err
	}
	if err := came.await(2 * liteEach); err != nil {
		return "", err
	}
	time.Sleep(quiet)
	if bodies := misnamed.bodies(); len(bodies) > 0 {
		return "", fmt.Errorf("came with another lite topic: %v", bodies)
	}
	if err := expectLiteOrder(came.bodies(), "red", "green"); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d of %d came, in order in each lite topic",
		2*liteEach, len(liteTopics)*liteEach), nil
}

// liteSubscriptions come and go while the consumer runs.
func (f *fixture) liteSubscriptions() (string, error) {
	topic := f.checkTopic("lite-subscriptions")
	if err := f.sendLite(topic, "red-0"); err != nil {
		return "", err
	}
	var came arrivals
	consumer, err := startLiteConsumer(f.endpoint, f.checkGroup("lite-subscriptions"), topic,
		came.succeed)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	steps := []func() error{
		func() error { return subscribeLite(consumer, "red") },
		func() error { return came.await(1) },
		// Nothing was ever sent to green.
		func() error { return subscribeLite(consumer, "green") },
		func() error { return f.sendLite(topic, "green-0") },
		func() error { return came.await(2) },
		func() error { return consumer.UnSubscribeLite("red") },
		func() error { return f.sendLite(topic, "red-1", "green-1") },
		func() error { return came.await(3) },
		func() error { time.Sleep(quiet); return nil },
		func() error { return expectCame(&came, "red-0", "green-0", "green-1") },
		func() error { return subscribeLite(consumer, "red") },
		func() error { return came.await(4) },
		func() error { return expectCame(&came, "red-0", "green-0", "green-1", "red-1") },
	}
	return "what was sent without a subscriber came with the subscription", inTurn(steps)
}

// liteMembers: each of two has a lite topic of its own, and both have a third one.
func (f *fixture) liteMembers() (string, error) {
	topic, group := f.checkTopic("lite-members"), f.checkGroup("lite-members")
	var all arrivals
	own := map[string]*arrivals{"red": {}, "green": {}}
	for liteTopic, came := range own {
		consumer, err := startLiteConsumer(f.endpoint, group, topic,
			func(message *rmq.MessageView) rmq.ConsumerResult {
				came.add(message)
				return all.succeed(message)
			})
		if err != nil {
			return "", err
		}
		defer f.stopInBackground(consumer)
		if err := subscribeLite(consumer, liteTopic, "blue"); err != nil {
			return "", err
		}
	}
	if err := f.sendToLiteTopics(topic); err != nil {
		return "", err
	}
	if err := all.await(len(liteTopics) * liteEach); err != nil {
		return "", err
	}
	time.Sleep(quiet)
	if err := expectLiteOrder(all.bodies(), liteTopics...); err != nil {
		return "", err
	}
	var shared []int
	for _, liteTopic := range []string{"red", "green"} {
		bodies := own[liteTopic].bodies()
		owned := slices.DeleteFunc(slices.Clone(bodies), func(body string) bool {
			return strings.HasPrefix(body, "blue-")
		})
		if err := expectLiteOrder(owned, liteTopic); err != nil {
			return "", fmt.Errorf("the member with %s: %w", liteTopic, err)
		}
		shared = append(shared, len(bodies)-len(owned))
	}
	return fmt.Sprintf("each got its own; of the shared lite topic one got %d, the other %d",
		shared[0], shared[1]), nil
}

// liteDeadLetter has a listener that fails for red-0. Meanwhile another lite topic goes on; the
// later red messages come after its last attempt.
func (f *fixture) liteDeadLetter() (string, error) {
	topic := f.checkTopic("lite-dead-letter")
	var came, failed arrivals
	consumer, err := startLiteConsumer(f.endpoint, f.checkGroup("lite-dead-letter"), topic,
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
	if err := subscribeLite(consumer, "red", "green"); err != nil {
		return "", err
	}
	if err := f.sendLite(topic, "red-0"); err != nil {
		return "", err
	}
	if err := came.await(1); err != nil {
		return "", err
	}
	if err := f.sendLite(topic, "green-0", "red-1", "red-2"); err != nil {
		return "", err
	}
	expected := []string{"red-0", "green-0", "red-0", "red-0", "red-1", "red-2"}
	if err := came.await(len(expected)); err != nil {
		return "", err
	}
	if !slices.Equal(failed.attempts(), []int32{1, 2, 3}) {
		return "", fmt.Errorf("attempts %v", failed.attempts())
	}
	if err := expectCame(&came, expected...); err != nil {
		return "", err
	}
	if err := f.expectDeadLetter("lite-dead-letter", came.soFar()[0].id); err != nil {
		return "", err
	}
	return fmt.Sprintf("attempts %v, then the dead-letter topic and the rest of its lite topic",
		failed.attempts()), nil
}

// liteSuspend has a listener that gives red back once: it comes again later, from where it was and
// as the same attempt, while the other lite topic goes on.
func (f *fixture) liteSuspend() (string, error) {
	topic := f.checkTopic("lite-suspend")
	if err := f.sendLite(topic, "red-0", "red-1"); err != nil {
		return "", err
	}
	var came, red arrivals
	consumer, err := startLiteConsumer(f.endpoint, f.checkGroup("lite-suspend"), topic,
		func(message *rmq.MessageView) rmq.ConsumerResult {
			came.add(message)
			if message.GetLiteTopic() == "red" {
				red.add(message)
				if len(red.soFar()) == 1 {
					return rmq.NewConsumerResultSuspend(suspendTime)
				}
			}
			return rmq.SUCCESS
		})
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	if err := subscribeLite(consumer, "red", "green"); err != nil {
		return "", err
	}
	if err := came.await(1); err != nil {
		return "", err
	}
	if err := f.sendLite(topic, "green-0"); err != nil {
		return "", err
	}
	if err := came.await(4); err != nil {
		return "", err
	}
	if err := expectCame(&came, "red-0", "green-0", "red-0", "red-1"); err != nil {
		return "", err
	}
	all := red.soFar()
	away := all[1].at.Sub(all[0].at).Round(time.Millisecond)
	if away < suspendTime || away > suspendTime+latest {
		return "", fmt.Errorf("came again after %v", away)
	}
	if !slices.Equal(red.attempts(), []int32{1, 1, 1}) {
		return "", fmt.Errorf("attempts %v", red.attempts())
	}
	return fmt.Sprintf("came again after %v, in order, still as attempt 1", away), nil
}

// liteQuota: a member of this group may have two subscriptions. The client does not count.
func (f *fixture) liteQuota() (string, error) {
	var came arrivals
	consumer, err := startLiteConsumer(f.endpoint, f.checkGroup("lite-quota"),
		f.checkTopic("lite-quota"), came.succeed)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	if err := subscribeLite(consumer, "red", "green"); err != nil {
		return "", err
	}
	// Once more changes nothing.
	if err := subscribeLite(consumer, "green"); err != nil {
		return "", err
	}
	if err := expectCode(consumer.SubscribeLite("blue"), liteQuotaExceeded); err != nil {
		return "", err
	}
	if err := consumer.UnSubscribeLite("red"); err != nil {
		return "", err
	}
	if err := subscribeLite(consumer, "blue"); err != nil {
		return "", err
	}
	return "the third was refused by the server, until there was one less", nil
}

// liteTopicQuota: this topic may have two lite topics.
func (f *fixture) liteTopicQuota() (string, error) {
	topic := f.checkTopic("lite-topic-quota")
	if err := f.sendLite(topic, "red-0", "green-0"); err != nil {
		return "", err
	}
	if err := expectCode(f.sendLite(topic, "blue-0"), liteTopicQuotaExceeded); err != nil {
		return "", err
	}
	return "the third was refused, the others go on", f.sendLite(topic, "red-1", "green-1")
}

// liteExclusive: in this group a lite topic belongs to the member that subscribed to it last.
func (f *fixture) liteExclusive() (string, error) {
	topic, group := f.checkTopic("lite-exclusive"), f.checkGroup("lite-exclusive")
	var ofOne, ofTwo arrivals
	one, err := startLiteConsumer(f.endpoint, group, topic, ofOne.succeed)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(one)
	two, err := startLiteConsumer(f.endpoint, group, topic, ofTwo.succeed)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(two)
	steps := []func() error{
		func() error { return subscribeLite(one, "red", "green") },
		func() error { return f.sendLite(topic, "red-0") },
		func() error { return ofOne.await(1) },
		func() error { return subscribeLite(two, "red") },
		func() error { return f.sendLite(topic, "red-1") },
		func() error { return ofTwo.await(1) },
		// A former owner that was not told takes red back with that.
		func() error { time.Sleep(synced); return nil },
		func() error { return f.sendLite(topic, "red-2", "green-0") },
		func() error { return ofOne.await(2) },
		func() error { return ofTwo.await(2) },
		func() error { return expectCame(&ofOne, "red-0", "green-0") },
		func() error { return expectCame(&ofTwo, "red-1", "red-2") },
	}
	return "the former owner was told, and kept the other lite topic", inTurn(steps)
}

// liteIllegalName: the client passes all names on.
func (f *fixture) liteIllegalName() (string, error) {
	topic := f.checkTopic("lite-illegal-name")
	longest := strings.Repeat("x", liteNameMax)
	if err := f.sendLite(topic, longest+"-0"); err != nil {
		return "", err
	}
	var came arrivals
	consumer, err := startLiteConsumer(f.endpoint, f.checkGroup("lite-illegal-name"), topic,
		came.succeed)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	if err := subscribeLite(consumer, longest); err != nil {
		return "", err
	}
	if err := came.await(1); err != nil {
		return "", err
	}
	for _, name := range []string{longest + "x", " "} {
		if err := expectCode(f.sendLite(topic, name+"-0"), illegalLiteTopic); err != nil {
			return "", fmt.Errorf("sent to %q: %w", name, err)
		}
	}
	for _, name := range []string{longest + "x", " ", ""} {
		if err := expectCode(consumer.SubscribeLite(name), illegalLiteTopic); err != nil {
			return "", fmt.Errorf("subscribed to %q: %w", name, err)
		}
	}
	return "the longest legal name passed, the server refused longer and blank ones", nil
}

// sendToLiteTopics sends to all lite topics in turn.
func (f *fixture) sendToLiteTopics(topic string) error {
	for i := range liteEach {
		for _, liteTopic := range liteTopics {
			if err := f.sendLite(topic, fmt.Sprintf("%s-%d", liteTopic, i)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendLite sends <lite topic>-<number>, one after the other.
func (f *fixture) sendLite(topic string, bodies ...string) error {
	for _, body := range bodies {
		liteTopic, _, _ := strings.Cut(body, "-")
		message := &rmq.Message{Topic: topic, Body: []byte(body)}
		message.SetLiteTopic(liteTopic)
		if _, err := f.send(message); err != nil {
			return fmt.Errorf("sending %s: %w", body, err)
		}
	}
	return nil
}

func inTurn(steps []func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func subscribeLite(consumer rmq.LitePushConsumer, liteTopics ...string) error {
	for _, liteTopic := range liteTopics {
		if err := consumer.SubscribeLite(liteTopic); err != nil {
			return fmt.Errorf("subscribing to %s: %w", liteTopic, err)
		}
	}
	return nil
}

func expectCode(err error, expected int32) error {
	if err == nil {
		return fmt.Errorf("not refused with %d", expected)
	}
	if code(err) != expected {
		return fmt.Errorf("refused for another reason: %w", err)
	}
	return nil
}

func expectCame(came *arrivals, expected ...string) error {
	if bodies := came.bodies(); !slices.Equal(bodies, expected) {
		return fmt.Errorf("came as %v", bodies)
	}
	return nil
}

// expectLiteOrder fails unless all messages of these lite topics came, each once and in order, and
// no other.
func expectLiteOrder(bodies []string, liteTopics ...string) error {
	if len(bodies) != len(liteTopics)*liteEach {
		return fmt.Errorf("%d came: %v", len(bodies), bodies)
	}
	for _, liteTopic := range liteTopics {
		var own, expected []string
		for _, body := range bodies {
			if strings.HasPrefix(body, liteTopic+"-") {
				own = append(own, body)
			}
		}
		for i := range liteEach {
			expected = append(expected, fmt.Sprintf("%s-%d", liteTopic, i))
		}
		if !slices.Equal(own, expected) {
			return fmt.Errorf("came as %v", own)
		}
	}
	return nil
}
