package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	defaultConcurrency = 1024
	firstSuccessLimit  = 60 * time.Second
	// outstandingLimit is more than three attempts of 3 s each.
	outstandingLimit  = 30 * time.Second
	producerStopLimit = 10 * time.Second
)

// outcome is the log's line of one send.
type outcome struct {
	StartMS int64  `json:"t_ms"`
	EndMS   int64  `json:"end_ms"`
	Value   string `json:"v"`
	OK      bool   `json:"ok"`
	ID      string `json:"id,omitempty"`
	Error   string `json:"err,omitempty"`
}

// summary counts the outcomes and the longest time without a success.
type summary struct {
	Sent     int64 `json:"sent"`
	OK       int64 `json:"ok"`
	Failed   int64 `json:"failed"`
	MaxGapMS int64 `json:"max_gap_ms"`
}

// load is one run of the command produce.
type load struct {
	producer rmq.Producer
	topic    string
	log      *jsonLines
	// slots has room for as many sends as may be in flight.
	slots chan struct{}

	mutex         sync.Mutex
	inFlight      map[int64]time.Time
	total         summary
	lastSuccessMS int64
}

// produce sends at a fixed rate, whether the sends succeed or not, and logs the outcome of each.
//
// The producer has the client's default retries and time-outs: how long a failure takes and what
// is retried is part of what the harness measures.
func produce(args []string) (bool, error) {
	var rate, seconds float64
	var concurrency int
	var logFile string
	flags := newFlags("produce")
	flags.Float64Var(&rate, "rate", 0, "sends a second")
	flags.Float64Var(&seconds, "seconds", 0, "duration")
	flags.IntVar(&concurrency, "concurrency", defaultConcurrency, "most sends in flight")
	flags.StringVar(&logFile, "log", "", "file to append outcomes to")
	if err := flags.parse(args, "log"); err != nil {
		return false, err
	}
	if rate <= 0 || seconds <= 0 || concurrency <= 0 {
		return false, fmt.Errorf("%w: --rate, --seconds and --concurrency are positive", errUsage)
	}
	stopped, cancel := stopRequest()
	defer cancel()
	log, err := openJSONLines(logFile)
	if err != nil {
		return false, err
	}
	producer, err := startProducer(flags.endpoint, flags.topic)
	if err != nil {
		return false, err
	}
	l := &load{
		producer: producer,
		topic:    flags.topic,
		log:      log,
		slots:    make(chan struct{}, concurrency),
		inFlight: make(map[int64]time.Time),
	}
	next, err := l.sendUntilOneSucceeds(stopped)
	if err != nil {
		return false, err
	}
	fmt.Println("READY")
	l.sendAtRate(stopped, next, rate, time.Duration(seconds*float64(time.Second)))
	l.awaitOutstanding()
	(&jsonLines{out: os.Stdout}).append(l.total)
	stopWithin(producer, producerStopLimit)
	return true, nil
}

// sendUntilOneSucceeds returns the next sequence number.
func (l *load) sendUntilOneSucceeds(stopped context.Context) (int64, error) {
	deadline := time.Now().Add(firstSuccessLimit)
	for sequence := int64(0); ; sequence++ {
		l.slots <- struct{}{}
		l.send(sequence)
		if l.total.OK > 0 || stopped.Err() != nil {
			return sequence + 1, nil
		}
		if time.Now().After(deadline) {
			return 0, fmt.Errorf("no send succeeded in %v", firstSuccessLimit)
		}
		select {
		case <-stopped.Done():
		case <-time.After(time.Second):
		}
	}
}

// sendAtRate sends on schedule; a send that is late (all slots were taken) goes out as soon as it
// can.
func (l *load) sendAtRate(stopped context.Context, first int64, rate float64,
	duration time.Duration) {
	start := time.Now()
	ended, cancel := context.WithDeadline(stopped, start.Add(duration))
	defer cancel()
	for i := int64(0); ; i++ {
		due := start.Add(time.Duration(float64(i) / rate * float64(time.Second)))
		select {
		case <-ended.Done():
			return
		case <-time.After(time.Until(due)):
		}
		select {
		case <-ended.Done():
			return
		case l.slots <- struct{}{}:
			go l.send(first + i)
		}
	}
}

// send sends one message, for which a slot was taken, and logs the outcome.
func (l *load) send(sequence int64) {
	l.mutex.Lock()
	l.inFlight[sequence] = time.Now()
	l.mutex.Unlock()
	id, err := send(l.producer, &rmq.Message{Topic: l.topic, Body: []byte(value(sequence))})
	<-l.slots
	l.finished(sequence, id, err)
}

func value(sequence int64) string {
	return fmt.Sprintf("P%d-%d", os.Getpid(), sequence)
}

func (l *load) finished(sequence int64, id string, err error) {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	// Whoever takes the entry out writes its line: there is just one for each send.
	start, ok := l.inFlight[sequence]
	if !ok {
		return
	}
	delete(l.inFlight, sequence)
	o := outcome{
		StartMS: start.UnixMilli(),
		EndMS:   time.Now().UnixMilli(),
		Value:   value(sequence),
		OK:      err == nil,
		ID:      id,
	}
	if err != nil {
		o.Error = err.Error()
	}
	l.log.append(o)
	l.count(o)
}

func (l *load) count(o outcome) {
	l.total.Sent++
	if !o.OK {
		l.total.Failed++
		return
	}
	if l.total.OK > 0 {
		l.total.MaxGapMS = max(l.total.MaxGapMS, o.EndMS-l.lastSuccessMS)
	}
	l.total.OK++
	l.lastSuccessMS = o.EndMS
}

// awaitOutstanding waits for the sends in flight. The client can hold one for longer than its
// time-outs say: it connects to one broker at a time, for up to 5 s, outside of them.
func (l *load) awaitOutstanding() {
	deadline := time.Now().Add(outstandingLimit)
	for len(l.outstanding()) > 0 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	for _, sequence := range l.outstanding() {
		l.finished(sequence, "", errors.New("outcome unknown at exit"))
	}
}

func (l *load) outstanding() []int64 {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	var sequences []int64
	for sequence := range l.inFlight {
		sequences = append(sequences, sequence)
	}
	return sequences
}
