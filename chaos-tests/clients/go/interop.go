package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	// checkLimit is for checks that hang: the longest healthy one needs about a minute.
	checkLimit = 180 * time.Second
	bulkLimit  = 900 * time.Second
	// closeLimit is more than a push consumer's stop takes, which waits for its long poll: 20 s
	// and the 3 s request time-out.
	closeLimit = 30 * time.Second
)

// fixture is what the checks of one run share.
type fixture struct {
	endpoint  string
	topic     string
	topic2    string
	group     string
	group2    string
	bulkCount int

	producerOnce  sync.Once
	producer      rmq.Producer
	producerError error
	closing       sync.WaitGroup
}

// check returns its detail, or an error that says what was not as it should be.
type check struct {
	name  string
	limit time.Duration
	run   func() (string, error)
}

func (f *fixture) checks() []check {
	return []check{
		{"send_sync", checkLimit, f.sendSync},
		{"send_async", checkLimit, f.sendAsync},
		{"push_consume", checkLimit, f.pushConsume},
		{"simple_consume_ack", checkLimit, f.simpleConsumeAck},
		{"redelivery", checkLimit, f.redelivery},
		{"change_invisible", checkLimit, f.changeInvisible},
		{"tag_filter", checkLimit, f.tagFilter},
		{"two_groups", checkLimit, f.twoGroups},
		{"shared_group", checkLimit, f.sharedGroup},
		{"unknown_topic", checkLimit, f.unknownTopic},
		{"body_too_large", checkLimit, f.bodyTooLarge},
		{"properties_and_keys", checkLimit, f.propertiesAndKeys},
		{"bulk", bulkLimit, f.bulk},
	}
}

// interop runs the checks one after the other and prints a line of JSON for each. It returns
// whether all were all right.
func interop(args []string) (bool, error) {
	f := &fixture{}
	var only string
	flags := newFlags("interop")
	flags.StringVar(&f.topic2, "topic2", "", "second topic")
	flags.StringVar(&f.group, "group", "", "consumer group")
	flags.StringVar(&f.group2, "group2", "", "second consumer group")
	flags.IntVar(&f.bulkCount, "count", 10_000, "messages of the check bulk")
	flags.StringVar(&only, "only", "", "names of checks, with commas")
	if err := flags.parse(args, "topic2", "group", "group2"); err != nil {
		return false, err
	}
	f.endpoint, f.topic = flags.endpoint, flags.topic
	selected, err := selectChecks(f.checks(), only)
	if err != nil {
		return false, err
	}

	out := &jsonLines{out: os.Stdout}
	allOK := true
	for _, c := range selected {
		allOK = c.print(out) && allOK
	}
	f.close()
	return allOK, nil
}

// print runs the check, prints its line of JSON and returns whether it was all right.
func (c check) print(out *jsonLines) bool {
	detail, err := runLimited(c)
	if err != nil {
		detail = err.Error()
	}
	out.append(struct {
		Check  string `json:"check"`
		OK     bool   `json:"ok"`
		Detail string `json:"detail"`
	}{c.name, err == nil, detail})
	return err == nil
}

func selectChecks(all []check, only string) ([]check, error) {
	if only == "" {
		return all, nil
	}
	var selected []check
	names := strings.Split(only, ",")
	for _, c := range all {
		if slices.Contains(names, c.name) {
			selected = append(selected, c)
		}
	}
	if len(selected) != len(names) {
		return nil, fmt.Errorf("%w: --only %s names an unknown check", errUsage, only)
	}
	return selected, nil
}

// runLimited gives a check a goroutine of its own: the client may hang, and the other checks
// should still run.
func runLimited(c check) (string, error) {
	type result struct {
		detail string
		err    error
	}
	done := make(chan result, 1)
	go func() {
		detail, err := c.run()
		done <- result{detail, err}
	}()
	select {
	case r := <-done:
		return r.detail, r.err
	case <-time.After(c.limit):
		return "", fmt.Errorf("not finished after %v", c.limit)
	}
}

// checkTopic is the topic that only the named check uses.
func (f *fixture) checkTopic(check string) string { return f.topic + "-" + check }

// checkGroup is the group that only the named check uses.
func (f *fixture) checkGroup(check string) string { return f.group + "-" + check }

func (f *fixture) sharedProducer() (rmq.Producer, error) {
	f.producerOnce.Do(func() {
		f.producer, f.producerError = startProducer(f.endpoint, f.topic)
	})
	return f.producer, f.producerError
}

// send sends a message with the shared producer and returns its id.
func (f *fixture) send(message *rmq.Message) (string, error) {
	producer, err := f.sharedProducer()
	if err != nil {
		return "", err
	}
	return send(producer, message)
}

// sendMany sends prefix-0 to prefix-(count-1) one after the other and returns the bodies.
func (f *fixture) sendMany(topic, prefix string, count int) ([]string, error) {
	var bodies []string
	for i := range count {
		body := fmt.Sprintf("%s-%d", prefix, i)
		if _, err := f.send(&rmq.Message{Topic: topic, Body: []byte(body)}); err != nil {
			return nil, err
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// stopper is what all clients have.
type stopper interface {
	GracefulStop() error
}

func (f *fixture) stopInBackground(client stopper) {
	f.closing.Add(1)
	go func() {
		defer f.closing.Done()
		stop(client)
	}()
}

// close stops all that is running, but waits no longer than a healthy stop takes.
func (f *fixture) close() {
	if f.producer != nil && f.producerError == nil {
		f.stopInBackground(f.producer)
	}
	done := make(chan struct{})
	go func() {
		f.closing.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(closeLimit):
		fmt.Fprintf(os.Stderr, "clients were still stopping after %v\n", closeLimit)
	}
}

func stop(client stopper) {
	if err := client.GracefulStop(); err != nil {
		fmt.Fprintln(os.Stderr, "could not stop a client:", err)
	}
}
