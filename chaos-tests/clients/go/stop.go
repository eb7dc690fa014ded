package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// stopRequest returns a context that ends when the harness wants this process to finish: on
// SIGTERM.
func stopRequest() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGTERM)
}

// stopWhenStdinCloses stops when standard input ends, if someone holds its other end: so a driver
// does not outlive a harness that was killed. A null device or a terminal says nothing.
func stopWhenStdinCloses(stop context.CancelFunc) {
	info, err := os.Stdin.Stat()
	if err != nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) == 0 {
		return
	}
	go func() {
		// An error is as good as the end.
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
}
