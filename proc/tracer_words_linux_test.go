// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
)

// pattern is what the target's pages around the hole hold.
func pattern(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((from+i)*7 + (from+i)>>8)
	}
	return b
}

// Words of a stopped process, up to the byte before a hole (R70).
func TestPeekGivesExactPrefix(t *testing.T) {
	g := startTarget(t, "count 2")
	page := os.Getpagesize()
	base := remora.Addr(g.askNumber("holed"))
	tr := g.tracer()
	mustStop(t, tr)
	defer tr.resume()
	for from := page - 20; from < page+3; from++ {
		for _, size := range []int{1, 2, 7, 8, 9, 19, 20, 21, 40} {
			want := min(size, max(page-from, 0))
			buf := make([]byte, size)
			n, errno := tr.peek(buf, base+remora.Addr(from))
			if n != want || (errno == 0) != (want == size) || errno != 0 && errno != unix.EIO {
				t.Fatalf("peek of %d bytes at page+%d: %d, %v; want %d", size, from-page, n, errno, want)
			}
			if !bytes.Equal(buf[:n], pattern(from, n)) {
				t.Fatalf("peek of %d bytes at page+%d: wrong bytes", size, from-page)
			}
		}
	}
	buf := make([]byte, 2*page)
	if n, errno := tr.peek(buf, base+remora.Addr(2*page)); n != 2*page || errno != 0 {
		t.Fatalf("peek of two pages: %d, %v", n, errno)
	}
	if !bytes.Equal(buf, pattern(2*page, 2*page)) {
		t.Error("peek of two pages: wrong bytes")
	}
	if n, errno := tr.peek(nil, base+remora.Addr(page)); n != 0 || errno != 0 {
		t.Errorf("peek of nothing: %d, %v", n, errno)
	}
}

func TestPokeChangesOnlyWhatItCounts(t *testing.T) {
	g := startTarget(t, "count 2")
	page := os.Getpagesize()
	base := remora.Addr(g.askNumber("holed"))
	tr := g.tracer()
	model := pattern(0, page)
	fill := byte(1)
	for from := page - 20; from < page+3; from++ {
		for _, size := range []int{1, 2, 7, 8, 9, 19, 20, 21, 40} {
			want := min(size, max(page-from, 0))
			data := bytes.Repeat([]byte{fill}, size)
			fill++
			mustStop(t, tr)
			n, errno := tr.poke(data, base+remora.Addr(from))
			if n != want || (errno == 0) != (want == size) || errno != 0 && errno != unix.EIO {
				t.Fatalf("poke of %d bytes at page+%d: %d, %v; want %d", size, from-page, n, errno, want)
			}
			if from < page {
				copy(model[from:], data[:n])
			}
			got := make([]byte, 64)
			if n, errno := tr.peek(got, base+remora.Addr(page-64)); n != 64 {
				t.Fatalf("peek: %d, %v", n, errno)
			}
			if !bytes.Equal(got, model[page-64:]) {
				t.Fatalf("after a poke of %d bytes at page+%d: % x, want % x", size, from-page, got, model[page-64:])
			}
			mustResume(t, tr)
		}
	}
	for _, i := range []int{page - 1, page - 2, page - 9, page - 21} {
		if got := g.askNumber("lookholed %d", i); byte(got) != model[i] {
			t.Errorf("the target sees %#x at %d, want %#x", got, i, model[i])
		}
	}
}

// ptrace ignores protection as /proc/PID/mem does (R66, R70).
func TestPokeIgnoresProtection(t *testing.T) {
	g := startTarget(t, "count 2")
	protected := remora.Addr(g.askNumber("protected"))
	text := remora.Addr(g.askNumber("text"))
	tr := g.tracer()
	if n, errno := tr.move(t.Context(), true, []byte{42}, protected+5); n != 1 || errno != 0 {
		t.Fatalf("write: %d, %v", n, errno)
	}
	for i, want := range map[int]uint64{4: 0, 5: 42, 6: 0} {
		if got := g.askNumber("look %d", i); got != want {
			t.Errorf("the target sees %d at %d, want %d", got, i, want)
		}
	}
	// The target runs the same program, so its text is known.
	mustStop(t, tr)
	var old, now [3]byte
	for _, f := range []func() (int, unix.Errno){
		func() (int, unix.Errno) { return tr.peek(old[:], text+1) },
		func() (int, unix.Errno) { return tr.poke([]byte{1, 2, 3}, text+1) },
		func() (int, unix.Errno) { return tr.peek(now[:], text+1) },
		func() (int, unix.Errno) { return tr.poke(old[:], text+1) },
	} {
		if n, errno := f(); n != 3 || errno != 0 {
			t.Errorf("text: %d, %v", n, errno)
		}
	}
	if now != [3]byte{1, 2, 3} {
		t.Errorf("the text holds % x", now)
	}
	mustResume(t, tr)
	if got := g.askNumber("look 5"); got != 42 {
		t.Errorf("the target, its text restored, sees %d", got)
	}
}

func TestAddressesDoNotWrap(t *testing.T) {
	g := startTarget(t, "count 1")
	tr := g.tracer()
	mustStop(t, tr)
	defer tr.resume()
	var b [16]byte
	for _, a := range []remora.Addr{0, 1 << 63, remora.MaxAddr - 3, 1<<63 - 8, 1 << 62} {
		want := unix.EIO
		if uint64(a) > uint64(^uintptr(0)) {
			want = unix.ERANGE
		}
		for name, f := range map[string]func([]byte, remora.Addr) (int, unix.Errno){"peek": tr.peek, "poke": tr.poke} {
			if n, errno := f(b[:], a); n != 0 || errno != want {
				t.Errorf("%s at %v: %d, %v; want 0, %v", name, a, n, errno, want)
			}
		}
	}
}

// A number too wide for this build must be refused: its low half may well be
// mapped.
func TestWideAddressIsNotCut(t *testing.T) {
	g := startTarget(t, "count 1")
	base := g.askNumber("holed")
	tr := g.tracer()
	var b [4]byte
	if n, _ := tr.move(t.Context(), true, b[:], remora.Addr(base|1<<62)); n != 0 {
		t.Errorf("a write at %#x moved %d bytes", base|1<<62, n)
	}
	if got, want := g.askNumber("lookholed 1"), pattern(1, 1)[0]; byte(got) != want {
		t.Errorf("a write at %#x went to %#x", base|1<<62, base)
	}
}

func TestConcurrentMoves(t *testing.T) {
	g := startTarget(t, "count 3")
	page := os.Getpagesize()
	base := remora.Addr(g.askNumber("holed"))
	tr := g.tracer()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			buf := make([]byte, 100)
			for j := range 30 {
				from := 2*page + 200*i + j
				n, errno := tr.move(t.Context(), false, buf, base+remora.Addr(from))
				if n != len(buf) || errno != 0 || !bytes.Equal(buf, pattern(from, n)) {
					t.Errorf("move: %d, %v", n, errno)
				}
			}
		})
	}
	wg.Wait()
	g.wantFree()
	g.wantRunning(3)
}

func TestMoveReportsWhyItCouldNot(t *testing.T) {
	g := startTarget(t, "count 1")
	other := startTarget(t, fmt.Sprint("tracer ", g.pid()))
	tr := g.tracer()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var b [1]byte
	if n, errno := tr.move(ctx, false, b[:], 0x1000); n != 0 || errno != unix.EINTR {
		t.Errorf("with a context that has ended: %d, %v", n, errno)
	}
	if n, errno := tr.move(t.Context(), false, b[:], 0x1000); n != 0 || errno != unix.EPERM {
		t.Errorf("with another tracer: %d, %v", n, errno)
	}
	other.kill(unix.SIGKILL)
	_ = other.wait()
	g.kill(unix.SIGKILL)
	_ = g.wait()
	if n, errno := tr.move(t.Context(), false, b[:], 0x1000); n != 0 || errno != unix.ESRCH {
		t.Errorf("after the exit: %d, %v", n, errno)
	}
}

func TestMovesAllocateNothing(t *testing.T) {
	g := startTarget(t, "count 2")
	page := os.Getpagesize()
	base := remora.Addr(g.askNumber("holed"))
	tr := g.tracer()
	buf := make([]byte, 40)
	ctx := context.Background()
	moves := func() {
		if n, errno := tr.move(ctx, false, buf, base+1); n != len(buf) {
			t.Fatalf("move: %d, %v", n, errno)
		}
		if n, errno := tr.move(ctx, true, buf[:9], base+remora.Addr(page-5)); n != 5 || errno != unix.EIO {
			t.Fatalf("move: %d, %v", n, errno)
		}
	}
	if got := testing.AllocsPerRun(1000, moves); got != 0 {
		t.Errorf("two moves made %v allocations", got)
	}
}
