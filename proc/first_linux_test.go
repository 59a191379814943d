// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// blocked gives the SigBlk line of the first thread.
func blocked(t *testing.T) string {
	t.Helper()
	status, err := os.ReadFile("/proc/self/task/" + strconv.Itoa(firstThread) + "/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("SigBlk:\t"))
	line, _, ok := bytes.Cut(rest, []byte("\n"))
	if !ok {
		t.Fatalf("no SigBlk in %q", status)
	}
	return string(line)
}

// onFirstThread runs do on the first thread: it holds every thread that is handed to it
// before that one.
func onFirstThread(t *testing.T, do func()) {
	t.Helper()
	found, release := make(chan bool), make(chan struct{})
	defer close(release)
	for range 1000 {
		go func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			first := unix.Gettid() == firstThread
			if first {
				do()
			}
			found <- first
			<-release
		}()
		if <-found {
			return
		}
	}
	t.Fatal("the first thread is not to be had")
}

// TestFirstThread: a signal of the process must not be handed to a thread that waits in
// a call made aside. The first thread, which would be asked before others, blocks all.
func TestFirstThread(t *testing.T) {
	before := blocked(t)
	onFirstThread(t, func() {
		undisturbed(func() {
			const stops = 1<<(unix.SIGINT-1) | 1<<(unix.SIGTERM-1)
			set, err := strconv.ParseUint(blocked(t), 16, 64)
			if err != nil || set&stops != stops {
				t.Errorf("signals blocked in the call: %x, %v", set, err)
			}
		})
	})
	if after := blocked(t); after != before {
		t.Errorf("signals blocked after the call: %s, before it %s", after, before)
	}
	undisturbed(func() {
		if unix.Gettid() != firstThread && blocked(t) != before {
			t.Error("a call on another thread blocked signals of the first")
		}
	})
}
