package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// transactionQuiet: several check-backs would have come by then.
const transactionQuiet = 4 * time.Second

func (f *fixture) transaction() (string, error) {
	topic := f.checkTopic("transaction")
	var asked questions
	producer, err := startTransactionProducer(f.endpoint, topic,
		func(message *rmq.MessageView) rmq.TransactionResolution {
			asked.add(message)
			return rmq.UNKNOWN
		})
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(producer)
	consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("transaction"), topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	committed, err := beginTransaction(producer, topic, "committed")
	if err != nil {
		return "", err
	}
	if err := committed.Commit(); err != nil {
		return "", err
	}
	rolledBack, err := beginTransaction(producer, topic, "rolled-back")
	if err != nil {
		return "", err
	}
	if err := rolledBack.RollBack(); err != nil {
		return "", err
	}
	var came arrivals
	if err := came.receiveCount(consumer, 1); err != nil {
		return "", err
	}
	if err := came.receiveFor(consumer, transactionQuiet); err != nil {
		return "", err
	}
	if !slices.Equal(came.bodies(), []string{"committed"}) {
		return "", fmt.Errorf("came: %v", came.bodies())
	}
	if times := asked.soFar(); len(times) > 0 {
		return "", fmt.Errorf("asked about ended transactions: %v", times)
	}
	return "only the committed one came, and nobody asked", nil
}

// transactionCheck ends no transaction: the server asks. About one it must ask twice.
func (f *fixture) transactionCheck() (string, error) {
	topic := f.checkTopic("transaction-check")
	var asked questions
	producer, err := startTransactionProducer(f.endpoint, topic,
		func(message *rmq.MessageView) rmq.TransactionResolution {
			times := asked.add(message)
			switch body := string(message.GetBody()); {
			case body == "commit", body == "unknown" && times > 1:
				return rmq.COMMIT
			case body == "rollback":
				return rmq.ROLLBACK
			default:
				return rmq.UNKNOWN
			}
		})
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(producer)
	consumer, err := startSimpleConsumer(f.endpoint, f.checkGroup("transaction-check"), topic, "*")
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	for _, body := range []string{"commit", "rollback", "unknown"} {
		if _, err := beginTransaction(producer, topic, body); err != nil {
			return "", err
		}
	}
	var came arrivals
	if err := came.receiveCount(consumer, 2); err != nil {
		return "", err
	}
	if err := came.receiveFor(consumer, transactionQuiet); err != nil {
		return "", err
	}
	if err := expectEachOnce(came.bodies(), []string{"commit", "unknown"}); err != nil {
		return "", err
	}
	times := asked.soFar()
	if len(times) != 3 || times["unknown"] < 2 {
		return "", fmt.Errorf("asked %v", times)
	}
	return fmt.Sprintf("asked %v; committed ones came", times), nil
}

// beginTransaction sends a half message.
func beginTransaction(producer rmq.Producer, topic, body string) (rmq.Transaction, error) {
	transaction := producer.BeginTransaction()
	message := &rmq.Message{Topic: topic, Body: []byte(body)}
	_, err := producer.SendWithTransaction(context.Background(), message, transaction)
	return transaction, err
}

// questions counts how often the server asked about each body.
type questions struct {
	mutex sync.Mutex
	times map[string]int
}

// add returns how often it was asked about this one, this time counted.
func (q *questions) add(message *rmq.MessageView) int {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	if q.times == nil {
		q.times = make(map[string]int)
	}
	q.times[string(message.GetBody())]++
	return q.times[string(message.GetBody())]
}

func (q *questions) soFar() map[string]int {
	q.mutex.Lock()
	defer q.mutex.Unlock()
	return maps.Clone(q.times)
}
