// SPDX-License-Identifier: Apache-2.0

package qmp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/qmp"
)

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1:7.2"}, "capabilities": ["oob"]}}` + "\r\n"

// request is a command as the server reads it.
type request struct {
	Execute   string          `json:"execute"`
	Arguments json.RawMessage `json:"arguments"`
	ID        uint64          `json:"id"`
}

// serve answers each command with what script says, a format of the command's id;
// "" ends the connection. qmp_capabilities is answered here.
func serve(t *testing.T, script func(q request) string) net.Conn {
	t.Helper()
	here, there := net.Pipe()
	done := make(chan struct{})
	t.Cleanup(func() { there.Close(); <-done })
	go func() {
		defer close(done)
		defer there.Close()
		io.WriteString(there, greeting)
		in := bufio.NewScanner(there)
		for in.Scan() {
			var q request
			if err := json.Unmarshal(in.Bytes(), &q); err != nil {
				t.Errorf("not a command: %s", in.Bytes())
				return
			}
			say := fmt.Sprintf(`{"return": {}, "id": %d}`, q.ID)
			if q.Execute != "qmp_capabilities" {
				if say = script(q); say == "" {
					return
				}
			}
			io.WriteString(there, say+"\r\n")
		}
	}()
	return here
}

func open(t *testing.T, onEvent func(qmp.Event), script func(q request) string) *qmp.Client {
	t.Helper()
	c, err := qmp.New(t.Context(), serve(t, script), onEvent)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestExecute(t *testing.T) {
	c := open(t, nil, func(q request) string {
		switch q.Execute {
		case "query-status":
			return fmt.Sprintf(`{"return": {"status": "paused", "running": false}, "id": %d}`, q.ID)
		case "human-monitor-command":
			return fmt.Sprintf(`{"return": "got %s\r\n", "id": %d}`, strings.ReplaceAll(string(q.Arguments), `"`, "'"), q.ID)
		}
		return fmt.Sprintf(`{"error": {"class": "CommandNotFound", "desc": "no %s"}, "id": %d}`, q.Execute, q.ID)
	})
	if v := c.Version(); v != (qmp.Version{Major: 7, Minor: 2, Micro: 22, Package: "Debian 1:7.2"}) {
		t.Errorf("version %+v", v)
	}
	var status struct{ Status string }
	if err := c.Execute(t.Context(), "query-status", nil, &status); err != nil || status.Status != "paused" {
		t.Errorf("status %q, %v", status.Status, err)
	}
	if text, err := c.HMP(t.Context(), "info mtree -f"); err != nil || text != "got {'command-line':'info mtree -f'}\r\n" {
		t.Errorf("HMP gave %q, %v", text, err)
	}
	var refused *qmp.Error
	if err := c.Execute(t.Context(), "nonsense", nil, nil); !errors.As(err, &refused) ||
		*refused != (qmp.Error{Command: "nonsense", Class: "CommandNotFound", Desc: "no nonsense"}) {
		t.Errorf("a refusal gave %v", err)
	}
	var wrong []int
	if err := c.Execute(t.Context(), "query-status", nil, &wrong); err == nil {
		t.Error("a reply of another type was taken")
	}
	if err := c.Execute(t.Context(), "x", func() {}, nil); err == nil {
		t.Error("arguments that are no JSON were sent")
	}
}

func TestManyAtOnce(t *testing.T) {
	c := open(t, nil, func(q request) string { return fmt.Sprintf(`{"return": %s, "id": %d}`, q.Arguments, q.ID) })
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			var got map[string]int
			if err := c.Execute(t.Context(), "echo", map[string]int{"n": i}, &got); err != nil || got["n"] != i {
				t.Errorf("%d: got %v, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

func TestEvents(t *testing.T) {
	var got []string
	c := open(t, func(e qmp.Event) {
		got = append(got, e.Name+" "+string(e.Data)+" "+e.Time.UTC().Format(time.RFC3339Nano))
	},
		func(q request) string {
			return `{"event": "STOP", "timestamp": {"seconds": 1700000000, "microseconds": 5}}` + "\n" +
				`{"timestamp": {"seconds": -1, "microseconds": -1}, "event": "DUMP_COMPLETED", "data": {"a": 1}}` + "\n" +
				fmt.Sprintf(`{"return": {}, "id": %d}`, q.ID+1000) + "\n" + // of nobody
				fmt.Sprintf(`{"return": {}, "id": %d}`, q.ID)
		})
	if err := c.Execute(t.Context(), "stop", nil, nil); err != nil {
		t.Fatal(err)
	}
	want := "STOP  2023-11-14T22:13:20.000005Z, DUMP_COMPLETED {\"a\": 1} 0001-01-01T00:00:00Z"
	if s := strings.Join(got, ", "); s != want {
		t.Errorf("events before the reply:\n%s, want\n%s", s, want)
	}
}

func TestEndOfConnection(t *testing.T) {
	c := open(t, nil, func(q request) string { return "" })
	if err := c.Execute(t.Context(), "quit", nil, nil); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("a command that got no answer gave %v", err)
	}
	<-c.Done()
	if err := c.Execute(t.Context(), "stop", nil, nil); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("a command after the end gave %v", err)
	}
	c = open(t, nil, func(q request) string { return "{]" })
	if err := c.Execute(t.Context(), "stop", nil, nil); err == nil || errors.Is(err, qmp.ErrClosed) {
		t.Errorf("what is no JSON gave %v", err)
	}
	c = open(t, nil, func(q request) string { return fmt.Sprintf(`{"return": {}, "id": %d}`, q.ID) })
	c.Close()
	if err := c.Execute(t.Context(), "stop", nil, nil); !errors.Is(err, qmp.ErrClosed) {
		t.Errorf("a command after Close gave %v", err)
	}
}

func TestDeadline(t *testing.T) {
	first := true
	c := open(t, nil, func(q request) string {
		if first {
			first = false
			return " " // no answer
		}
		return fmt.Sprintf(`{"return": {}, "id": %d}`, q.ID)
	})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if err := c.Execute(ctx, "slow", nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a command past its deadline gave %v", err)
	}
	if err := c.Execute(t.Context(), "next", nil, nil); err != nil {
		t.Errorf("the command after it gave %v", err)
	}
}

func TestGreeting(t *testing.T) {
	for name, say := range map[string]string{"none": "", "other": `{"hello": 1}`, "no JSON": "SSH-2.0\r\n"} {
		here, there := net.Pipe()
		go func() { io.WriteString(there, say); there.Close() }()
		if _, err := qmp.New(t.Context(), here, nil); err == nil || !strings.Contains(err.Error(), "greeting") {
			t.Errorf("%s: %v", name, err)
		}
	}
	here, there := net.Pipe() // QEMU serves another client
	defer there.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(time.Millisecond, cancel)
	if _, err := qmp.New(ctx, here, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("no greeting in time: %v", err)
	}
	if _, err := qmp.Dial(t.Context(), filepath.Join(t.TempDir(), "none"), nil); err == nil {
		t.Error("a socket that is not there was connected to")
	}
}

func TestEndlessMessage(t *testing.T) {
	here, there := net.Pipe()
	defer there.Close()
	go func() {
		for {
			if _, err := io.WriteString(there, strings.Repeat(" ", 1<<16)); err != nil {
				return
			}
		}
	}()
	if _, err := qmp.New(t.Context(), here, nil); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a message without end: %v", err)
	}
}
