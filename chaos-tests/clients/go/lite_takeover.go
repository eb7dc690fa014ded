package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	rmq "github.com/apache/rocketmq-clients/golang/v5"
)

// liteTakeover kills a consumer that has a message in its listener.
func (f *fixture) liteTakeover() (string, error) {
	topic, group := f.checkTopic("lite-takeover"), f.checkGroup("lite-takeover")
	victim, err := startLiteHolder(f.endpoint, topic, group, "red")
	if err != nil {
		return "", err
	}
	defer victim.kill()
	if err := f.sendLite(topic, "red-0"); err != nil {
		return "", err
	}
	select {
	case held := <-victim.bodies:
		if held != "red-0" {
			return "", fmt.Errorf("the victim holds %q", held)
		}
	case <-time.After(featureArrival):
		return "", fmt.Errorf("nothing came to the victim within %v", featureArrival)
	}
	var came arrivals
	survivor, err := startLiteConsumer(f.endpoint, group, topic, came.succeed)
	if err != nil {
		return "", err
	}
	defer f.stopInBackground(survivor)
	if err := subscribeLite(survivor, "red", "green"); err != nil {
		return "", err
	}
	if err := f.sendLite(topic, "red-1", "green-0"); err != nil {
		return "", err
	}
	if err := came.await(1); err != nil {
		return "", err
	}
	if err := expectCame(&came, "green-0"); err != nil {
		return "", fmt.Errorf("while the victim held red-0: %w", err)
	}
	killed := time.Now()
	victim.kill()
	if err := came.await(3); err != nil {
		return "", err
	}
	if err := expectCame(&came, "green-0", "red-0", "red-1"); err != nil {
		return "", err
	}
	after := came.soFar()[1].at.Sub(killed).Round(time.Millisecond)
	return fmt.Sprintf("taken over %v after the kill, in order", after), nil
}

// liteHolder is a consumer in a process of its own, to be killed: its listener prints the body of
// each message and never comes back.
type liteHolder struct {
	process *exec.Cmd
	bodies  chan string
}

func startLiteHolder(endpoint, topic, group, liteTopic string) (*liteHolder, error) {
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	process := exec.Command(executable, "lite-hold", "--endpoint", endpoint, "--topic", topic,
		"--group", group, "--lite", liteTopic, "--tls", strconv.FormatBool(rmq.EnableSsl))
	process.Stderr = os.Stderr
	// Never written to: its end tells the process that nobody is left to kill it.
	_, in := process.StdinPipe()
	out, failed := process.StdoutPipe()
	if err := errors.Join(in, failed); err != nil {
		return nil, err
	}
	if err := process.Start(); err != nil {
		return nil, err
	}
	holder := &liteHolder{process, make(chan string)}
	go holder.read(out)
	return holder, nil
}

func (h *liteHolder) read(out io.Reader) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		h.bodies <- lines.Text()
	}
}

// kill does not let it say goodbye. A second time does nothing.
func (h *liteHolder) kill() { _ = h.process.Process.Kill() }

// liteHold is what the process does.
func liteHold(args []string) (bool, error) {
	var group, liteTopic string
	flags := newFlags("lite-hold")
	flags.StringVar(&group, "group", "", "consumer group")
	flags.StringVar(&liteTopic, "lite", "", "lite topic")
	if err := flags.parse(args, "group", "lite"); err != nil {
		return false, err
	}
	running, stop := stopRequest()
	defer stop()
	stopWhenStdinCloses(stop)
	consumer, err := startLiteConsumer(flags.endpoint, group, flags.topic,
		func(message *rmq.MessageView) rmq.ConsumerResult {
			fmt.Println(string(message.GetBody()))
			select {}
		})
	if err != nil {
		return false, err
	}
	if err := subscribeLite(consumer, liteTopic); err != nil {
		return false, err
	}
	<-running.Done()
	return true, nil
}
