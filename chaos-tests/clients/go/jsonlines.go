package main

import (
	"encoding/json"
	"io"
	"os"
	"sync"
)

// jsonLines writes values as JSON, one a line, each in one unbuffered write: a line is in the
// file even if this process is killed next.
type jsonLines struct {
	mutex sync.Mutex
	out   io.Writer
}

func openJSONLines(path string) (*jsonLines, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &jsonLines{out: file}, nil
}

func (l *jsonLines) append(value any) {
	line, err := json.Marshal(value)
	if err == nil {
		l.mutex.Lock()
		defer l.mutex.Unlock()
		_, err = l.out.Write(append(line, '\n'))
	}
	if err != nil {
		// The log is the whole point of this process.
		panic(err)
	}
}
