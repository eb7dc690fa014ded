package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

const (
	illegalFilterExpression = 40010
	filterQuiet             = 3 * time.Second
)

var (
	sqlFilter = rmq.NewFilterExpressionWithType("a > 5 AND b = 'x'", rmq.SQL92)
	// sqlMessages are properties by body.
	sqlMessages = map[string]map[string]string{
		"six":       {"a": "6", "b": "x"},
		"ten":       {"a": "10", "b": "x"},
		"five":      {"a": "5", "b": "x"},
		"no-number": {"a": "many", "b": "x"},
		"other-b":   {"a": "6", "b": "y"},
		"no-a":      {"b": "x"},
		"no-b":      {"a": "6"},
	}
	sqlMatching = []string{"six", "ten"}
)

func (f *fixture) sqlFilterSimple() (string, error) {
	topic := f.checkTopic("sql-filter-simple")
	if err := f.sendSQLMessages(topic); err != nil {
		return "", err
	}
	consumer, err := startFilteringConsumer(f.endpoint, f.checkGroup("sql-filter-simple"), topic,
		sqlFilter)
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	var came arrivals
	if err := came.receiveCount(consumer, len(sqlMatching)); err != nil {
		return "", err
	}
	if err := came.receiveFor(consumer, filterQuiet); err != nil {
		return "", err
	}
	err = expectEachOnce(came.bodies(), sqlMatching)
	return fmt.Sprintf("%d of %d came", len(sqlMatching), len(sqlMessages)), err
}

func (f *fixture) sqlFilterPush() (string, error) {
	topic := f.checkTopic("sql-filter-push")
	if err := f.sendSQLMessages(topic); err != nil {
		return "", err
	}
	var came arrivals
	consumer, err := startFilteringPushConsumer(f.endpoint, f.checkGroup("sql-filter-push"), topic,
		sqlFilter, came.succeed)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(consumer)
	if err := came.await(len(sqlMatching)); err != nil {
		return "", err
	}
	time.Sleep(filterQuiet)
	err = expectEachOnce(came.bodies(), sqlMatching)
	return fmt.Sprintf("%d of %d came", len(sqlMatching), len(sqlMessages)), err
}

func (f *fixture) sqlMalformed() (string, error) {
	malformed := rmq.NewFilterExpressionWithType("a > 5 AND", rmq.SQL92)
	consumer, err := startFilteringConsumer(f.endpoint, f.checkGroup("sql-malformed"),
		f.checkTopic("sql-malformed"), malformed)
	if err != nil {
		return "", err
	}
	defer stop(consumer)
	_, err = consumer.Receive(context.Background(), 1, shortInvisible)
	switch {
	case err == nil:
		return "", errors.New("a malformed expression was accepted")
	case code(err) != illegalFilterExpression:
		return "", fmt.Errorf("not ILLEGAL_FILTER_EXPRESSION but %w", err)
	}
	return err.Error(), nil
}

func (f *fixture) sendSQLMessages(topic string) error {
	for body, properties := range sqlMessages {
		message := &rmq.Message{Topic: topic, Body: []byte(body)}
		for key, value := range properties {
			message.AddProperty(key, value)
		}
		if _, err := f.send(message); err != nil {
			return err
		}
	}
	return nil
}
