// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab_test

import (
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/vmlab"
)

// TestAgent has guests do one of each thing.
func TestAgent(t *testing.T) {
	for _, m := range vmlab.Guests() {
		t.Run(m.String(), func(t *testing.T) { testAgent(t, m) })
	}
}

func testAgent(t *testing.T, m vmlab.Machine) {
	ctx := t.Context()
	a := vmlab.StartAgent(t, m, &vmlab.AgentOptions{Programs: []string{"cmd/remora"}, Tests: []string{"internal/elfcore"}})
	for range 20 { // the disks carry the newest, not what was there before
		want := strings.Repeat("text\n", 10000)
		if err := a.WriteFile(ctx, "/tmp/file", []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := a.ReadFile(ctx, "/tmp/file"); err != nil || string(got) != want {
			t.Fatalf("a file comes back with %d bytes: %v", len(got), err)
		}
	}
	if _, err := a.ReadFile(ctx, "/tmp/none"); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("a file that is not there: %v", err)
	}
	if r, err := a.Run(ctx, "/bin/remora", "version"); err != nil || r.Exit != 0 || !strings.Contains(r.Stdout, "remora") {
		t.Errorf("remora version: %+v, %v", r, err)
	}
	if r, err := a.RunAs(ctx, 1000, "/bin/remora", "read", "1", "0"); err != nil || r.Exit != 4 {
		t.Errorf("remora read of process 1 as a user: %+v, %v", r, err)
	}
	if r, err := a.Run(ctx, "/bin/elfcore.test"); err != nil || r.Exit != 0 || !strings.Contains(r.Stdout, "PASS") {
		t.Errorf("a test: %+v, %v", r, err)
	}
	if _, err := a.Run(ctx, "/bin/none"); err == nil {
		t.Error("a program that is not there runs")
	}
	p, err := a.Start(ctx, "/bin/remora", "completion", "bash")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Tell(ctx, ""); err != nil {
		t.Error(err)
	}
	for r, err := p.Output(ctx); r.Stdout == ""; r, err = p.Output(ctx) {
		if err != nil {
			t.Fatal(err)
		}
	}
	if r, err := p.End(ctx); err != nil || !strings.Contains(r.Stdout, "complete") {
		t.Errorf("a program in the background: %+v, %v", r, err)
	}
}
