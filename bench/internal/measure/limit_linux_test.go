// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// deaf is a shell that never answers: nor does a process that it has started.
const deaf = "sleep 100 & wait"

// TestProgramThatHangs wants an error that names the side and the request, and nothing left
// of what was started.
func TestProgramThatHangs(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("sh", "-c", deaf)
	cmd.ExtraFiles = []*os.File{w}
	p, err := Start(cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	p.limit = 50 * time.Millisecond
	row := Row{Name: "row", Sides: []Side{{Name: "deaf side", By: p, Work: "some work"}}}
	_, err = Measure(&row, Options{})
	hung(t, err, "row: deaf side: ", `"sum some work"`)
	if err := r.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(r); err != nil {
		t.Errorf("something holds the pipe still: %v", err)
	}
	if _, err := p.Digest("more"); err == nil {
		t.Error("a program that was killed answers")
	}
	if err := p.Close(); err == nil {
		t.Error("that it was killed is no error")
	}
}

// TestProgramThatStays wants one killed that does not end with its input.
func TestProgramThatStays(t *testing.T) {
	p, err := Start(exec.Command("sh", "-c", deaf))
	if err != nil {
		t.Fatal(err)
	}
	p.limit = 50 * time.Millisecond
	hung(t, p.Close())
}

func TestCommandThatHangs(t *testing.T) {
	c := &Command{Args: []string{"sh", "-c", deaf}, limit: 50 * time.Millisecond}
	row := Row{Name: "row", Sides: []Side{{Name: "deaf side", By: c}}}
	_, err := Measure(&row, Options{})
	hung(t, err, "row: deaf side: ", c.How())
}

// hung wants an error that tells of the limit, and more.
func hung(t *testing.T, err error, more ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range append(more, "killed after 50ms") {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not hold %q", err, want)
		}
	}
}

// TestSaid keeps the end of what is said, and takes all of it.
func TestSaid(t *testing.T) {
	var s said
	for range 300 {
		if n, err := s.Write([]byte("abcdefgh")); n != 8 || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := s.String(); len(got) != 1000 || !strings.HasSuffix(got, "gh") {
		t.Errorf("%d bytes: %q", len(got), got)
	}
}
