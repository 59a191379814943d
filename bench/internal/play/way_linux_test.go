// SPDX-License-Identifier: Apache-2.0

package play

import (
	"errors"
	"strings"
	"testing"
)

// TestWaysTakeTurns has a process held only while a request lasts, and taken anew by the next
// one, also where it could not be taken before.
func TestWaysTakeTurns(t *testing.T) {
	var did []string
	verbs := ways(func(pid int) (*way, error) {
		if did = append(did, "open"); len(did) == 1 {
			return nil, errors.New("taken")
		}
		return &way{
			read:  func(p []byte, _ uint64) (int, error) { did = append(did, "read"); return len(p), nil },
			close: func() error { did = append(did, "close"); return nil },
		}, nil
	})
	var out strings.Builder
	if err := Serve(strings.NewReader("sum read 1 2 3\nsum read 1 2 3\nrun 2 read 1 2 3\n"), &out, verbs); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(did, " "); got != "open open read close open read read close" {
		t.Errorf("it did %q", got)
	}
	lines := strings.Split(out.String(), "\n")
	if lines[0] != "error taken" || !strings.HasPrefix(lines[1], "ok ") || !strings.HasPrefix(lines[2], "ok ") {
		t.Errorf("the answers are %q", lines)
	}
}
