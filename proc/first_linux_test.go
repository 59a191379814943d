// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"testing"

	"github.com/remora-go/remora/internal/sys/linux"
)

// blocked gives the signals that the calling thread has blocked.
func blocked(t *testing.T) uint64 {
	t.Helper()
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("SigBlk:\t"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	set, err := strconv.ParseUint(string(line), 16, 64)
	if err != nil {
		t.Fatalf("SigBlk in %q: %v", status, err)
	}
	return set
}

// A signal of the process must not be handed to its first thread while that waits in a
// call made aside: it has all signals blocked. Other threads go on as they are.
func TestFirstThread(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const stops = 1<<(2-1) | 1<<(15-1) // SIGINT, SIGTERM
	before := blocked(t)
	for _, first := range []int{linux.ThreadID(), 0} {
		undisturbed(first, func() {
			if set := blocked(t); first != 0 && set&stops != stops || first == 0 && set != before {
				t.Errorf("first thread %d: signals blocked in the call: %x, before it %x", first, set, before)
			}
		})
		if after := blocked(t); after != before {
			t.Errorf("first thread %d: signals blocked after the call: %x, before it %x", first, after, before)
		}
	}
	var c callers
	defer c.close()
	if c.put(c.tryGet()); c.first != os.Getpid() {
		t.Errorf("the first thread is taken for %d", c.first)
	}
}
