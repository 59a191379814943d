// SPDX-License-Identifier: Apache-2.0

package play

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLoad reads a file of ranges: each has a place of its own, one behind the other.
func TestLoad(t *testing.T) {
	name := filepath.Join(t.TempDir(), "ranges")
	if err := os.WriteFile(name, []byte("0x1000 8\n0x2010 4096\n16 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	segs, all, err := load(name)
	if err != nil || len(segs) != 3 || len(all) != 8+4096+1 || segs[1].Addr != 0x2010 || segs[2].Addr != 16 || len(segs[1].Buf) != 4096 {
		t.Fatalf("%v, %d bytes, %v", segs, len(all), err)
	}
	if &segs[1].Buf[0] != &all[8] || &segs[2].Buf[0] != &all[8+4096] || cap(segs[0].Buf) != 8 {
		t.Error("the buffers are not one behind the other")
	}
	if err := os.WriteFile(name, []byte("0x1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := load(name); err == nil {
		t.Error("a range without a size was taken")
	}
}

// TestTurns has what serves one at a time be held only while a request lasts, also where it
// fails.
func TestTurns(t *testing.T) {
	var did []string
	note := func(what string) func() error {
		return func() error { did = append(did, what); return nil }
	}
	verbs := map[string]Verb{"work": func([]string) (*Work, error) {
		return &Work{Enter: note("enter"), Leave: note("leave"), Do: note("do"), Close: note("close"), Digest: func() (string, error) { return "digest", nil }}, nil
	}, "bad": func([]string) (*Work, error) {
		return &Work{Enter: note("enter"), Leave: note("leave"), Do: func() error { return errors.New("trouble") }}, nil
	}}
	var out strings.Builder
	if err := Serve(strings.NewReader("sum work\nrun 2 work\nsum bad\n"), &out, verbs); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(did, " "); got != "enter do leave enter do do leave close enter leave" {
		t.Errorf("it did %q", got)
	}
	lines := strings.Split(out.String(), "\n")
	if lines[0] != "ok digest" || !strings.HasPrefix(lines[1], "ok ") || lines[2] != "error trouble" {
		t.Errorf("the answers are %q", lines)
	}
}
