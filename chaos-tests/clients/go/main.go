// Command raftmq-go-driver tests a server with the official RocketMQ Go client.
//
// Its commands are interop, features, produce and consume, each with its flags; lite-hold is started
// by a check.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

var errUsage = errors.New("usage: interop|features|produce|consume --flag value ...")

func main() {
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, errUsage)
		return exitUsage
	}
	var command func(args []string) (bool, error)
	switch args[0] {
	case "interop":
		command = interop
	case "features":
		command = features
	case "produce":
		command = produce
	case "consume":
		command = consume
	case "lite-hold":
		command = liteHold
	default:
		fmt.Fprintln(os.Stderr, errUsage)
		return exitUsage
	}
	ok, err := command(args[1:])
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		return exitUsage
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	case !ok:
		return exitFailed
	}
	return 0
}

// flags are a command's flags; all commands have --endpoint, --topic and --tls.
type flags struct {
	*flag.FlagSet
	endpoint string
	topic    string
	tls      *bool
}

func newFlags(command string) *flags {
	f := &flags{FlagSet: flag.NewFlagSet(command, flag.ContinueOnError)}
	f.StringVar(&f.endpoint, "endpoint", "", "host:port")
	f.StringVar(&f.topic, "topic", "", "topic")
	// Not a boolean flag of the package: that would not take its value from the next argument.
	f.Func("tls", "true or false; without it the client's own default", func(value string) error {
		tls, err := strconv.ParseBool(value)
		f.tls = &tls
		return err
	})
	return f
}

// parse reads the arguments, checks that the named flags were given, and sets up the client
// library.
func (f *flags) parse(args []string, required ...string) error {
	if err := f.Parse(args); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	for _, name := range append(required, "endpoint", "topic") {
		if f.Lookup(name).Value.String() == "" {
			return fmt.Errorf("%w: missing --%s", errUsage, name)
		}
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%w: unexpected %q", errUsage, f.Arg(0))
	}
	return setUpClientLibrary(f.tls)
}
