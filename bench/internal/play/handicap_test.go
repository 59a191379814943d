// SPDX-License-Identifier: Apache-2.0

package play

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParseHandicap(t *testing.T) {
	for text, want := range map[string]Handicap{"": {}, "15%": {Share: 0.15}, "300ns": {Call: 300}} {
		if got, err := ParseHandicap(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"%", "15", "x%", "-1ns", "0s"} {
		if h, err := ParseHandicap(text); err == nil {
			t.Errorf("%q: %+v, and no error", text, h)
		}
	}
}

// TestHandicapDoesTheSame wants the work done once, and its error kept.
func TestHandicapDoesTheSame(t *testing.T) {
	lost := errors.New("lost")
	for _, h := range []Handicap{{}, {Call: 10}, {Share: 0.1}} {
		done := 0
		verbs := h.On(map[string]Verb{
			"count": func([]string) (*Work, error) {
				return &Work{Do: func() error { done++; time.Sleep(2 * bulk); return lost }}, nil
			},
			"not": func([]string) (*Work, error) { return nil, lost },
		})
		w, err := verbs["count"](nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Do(); !errors.Is(err, lost) || done != 1 {
			t.Errorf("%+v: done %d times, %v", h, done, err)
		}
		if _, err := verbs["not"](nil); !errors.Is(err, lost) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

func TestHandicapSpins(t *testing.T) {
	if turn := turnTime(); turn <= 0 || turn > 1e6 {
		t.Errorf("a turn takes %v ns", turn)
	}
	if spin(3) == spin(4) {
		t.Error("turns are not taken")
	}
}

// TestServeHandicapped holds what a player answers against what it is asked.
func TestServeHandicapped(t *testing.T) {
	verbs := Handicap{Call: 1}.On(map[string]Verb{"say": func(args []string) (*Work, error) {
		return &Work{Do: func() error { return nil }, Digest: func() (string, error) { return strings.Join(args, "+"), nil }}, nil
	}})
	var out strings.Builder
	if err := Serve(strings.NewReader("sum say a b\nrun 3 say a b\nsum be\n"), &out, verbs); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 4 || lines[0] != "ok a+b" || !strings.HasPrefix(lines[1], "ok ") || !strings.HasPrefix(lines[2], "error ") {
		t.Errorf("%q", lines)
	}
}
