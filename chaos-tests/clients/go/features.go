package main

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// featureLimit is for checks that hang: the longest healthy one needs a quarter of that.
const featureLimit = 100 * time.Second

// featureChecks are the checks of message types, filters, retries and lite topics. Each has a topic
// and a group of its own, named after it.
func (f *fixture) featureChecks() []check {
	return []check{
		{"fifo_order_simple", featureLimit, f.fifoOrderSimple},
		{"fifo_order_push", featureLimit, f.fifoOrderPush},
		{"fifo_blocked", featureLimit, f.fifoBlocked},
		{"fifo_dead_letter", featureLimit, f.fifoDeadLetter},
		{"delay", featureLimit, f.delay},
		{"recall", featureLimit, f.recall},
		{"transaction", featureLimit, f.transaction},
		{"transaction_check", featureLimit, f.transactionCheck},
		{"sql_filter_simple", featureLimit, f.sqlFilterSimple},
		{"sql_filter_push", featureLimit, f.sqlFilterPush},
		{"sql_malformed", featureLimit, f.sqlMalformed},
		{"retry_backoff", featureLimit, f.retryBackoff},
		{"wrong_type", featureLimit, f.wrongType},
		{"mixed", featureLimit, f.mixed},
		{"priority", featureLimit, f.priority},
		{"lite_push", featureLimit, f.litePush},
		{"lite_subscriptions", featureLimit, f.liteSubscriptions},
		{"lite_members", featureLimit, f.liteMembers},
		{"lite_dead_letter", featureLimit, f.liteDeadLetter},
		{"lite_suspend", featureLimit, f.liteSuspend},
		{"lite_quota", featureLimit, f.liteQuota},
		{"lite_topic_quota", featureLimit, f.liteTopicQuota},
		{"lite_exclusive", featureLimit, f.liteExclusive},
		{"lite_illegal_name", featureLimit, f.liteIllegalName},
		{"lite_takeover", featureLimit, f.liteTakeover},
	}
}

// features runs the checks all at once, as they wait most of the time, and prints a line of JSON
// for each. Clients are left running: the process ends soon, and a push consumer takes 20 s to
// stop.
func features(args []string) (bool, error) {
	f := &fixture{}
	var only string
	flags := newFlags("features")
	flags.StringVar(&f.group, "group", "", "consumer group")
	flags.StringVar(&only, "only", "", "names of checks, with commas")
	if err := flags.parse(args, "group"); err != nil {
		return false, err
	}
	f.endpoint, f.topic = flags.endpoint, flags.topic
	selected, err := selectChecks(f.featureChecks(), only)
	if err != nil {
		return false, err
	}

	out := &jsonLines{out: os.Stdout}
	var failed atomic.Bool
	var running sync.WaitGroup
	for _, c := range selected {
		running.Add(1)
		go func() {
			defer running.Done()
			if !c.print(out) {
				failed.Store(true)
			}
		}()
	}
	running.Wait()
	return !failed.Load(), nil
}
