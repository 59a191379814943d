// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/testneed"
)

// keepStuck has this process hold what serves the page, so that it stays stuck when
// the specimen calls execve. It ends with the function that it gives.
func (f *frozen) keepStuck() (end func()) {
	f.t.Helper()
	links, err := filepath.Glob(procFile(f.Pid(), "fd/*"))
	if err != nil {
		f.t.Fatal(err)
	}
	pidfd, err := unix.PidfdOpen(f.Pid(), 0)
	if err != nil {
		f.t.Fatal(err)
	}
	defer unix.Close(pidfd)
	for _, link := range links {
		if to, err := os.Readlink(link); err != nil || to != "anon_inode:[userfaultfd]" {
			continue
		}
		n, err := strconv.Atoi(filepath.Base(link))
		if err != nil {
			f.t.Fatal(err)
		}
		fd, err := unix.PidfdGetfd(pidfd, n, 0)
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSYS) {
			testneed.Lacks(f.t, err.Error())
		}
		if err != nil {
			f.t.Fatal(err)
		}
		file := os.NewFile(uintptr(fd), "userfaultfd")
		f.t.Cleanup(func() { file.Close() })
		return func() { file.Close() }
	}
	f.t.Fatal("the specimen has no userfaultfd")
	return nil
}

// execs has the specimen call execve and map a page where one was before.
func (f *frozen) execs() {
	f.t.Helper()
	if err := f.Exec(); err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.MapAt(f.before.Start, specimen.Touched, f.pages()); err != nil {
		f.t.Fatal(err)
	}
}

func (f *frozen) pages() int { return int(f.before.Size) / pageSize }

// TestStuckAcrossExec: a call that is stuck holds the address space that the process
// has left. It lives, and yet what is reached by number is another one.
func TestStuckAcrossExec(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, row := range []struct {
		name string
		ctx  context.Context // of the call that is stuck
		left bool            // it is left behind before the execve
	}{
		{"left behind", ctx, true},
		{"running", ctx, false},
		{"running, cannot end", context.Background(), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			f := freeze(t, Options{}, 2, 1)
			let := f.keepStuck()
			ctx, cancel := context.WithCancel(row.ctx)
			defer cancel()
			if row.ctx.Done() == nil {
				ctx = row.ctx
			}
			stuck := f.start(ctx, remora.Read, remora.Seg{Addr: f.stuck.Start, Buf: make([]byte, 8)})
			f.waits(1)
			if row.left {
				cancel()
				f.wait(stuck)
			}
			f.execs()

			can, cease := context.WithCancel(context.Background())
			defer cease()
			for _, other := range []context.Context{can, context.Background()} {
				for _, op := range []remora.Op{remora.Read, remora.Write, remora.Read | remora.StopAtFault} {
					tr := f.start(other, op, remora.Seg{Addr: f.before.Start, Buf: make([]byte, 8)})
					f.wait(tr)
					tr.check(t, remora.ErrGone, remora.Seg{Err: remora.ErrGone})
				}
			}
			let()
			f.wait(stuck)
			f.ended()
			tr := f.start(can, remora.Read, remora.Seg{Addr: f.before.Start, Buf: make([]byte, 8)})
			f.wait(tr)
			tr.check(t, remora.ErrGone, remora.Seg{Err: remora.ErrGone})
		})
	}
}

// TestStuckPrefixAcrossExec: what was read beside a call that is stuck is not counted
// when the process has changed meanwhile.
func TestStuckPrefixAcrossExec(t *testing.T) {
	endings(t, func(t *testing.T, ctx context.Context, end func(), want error) {
		f := freeze(t, Options{}, 2, 1)
		let := f.keepStuck()
		good := remora.Seg{Addr: f.before.Start, Buf: make([]byte, 8)}
		read := f.start(ctx, remora.Read, good, remora.Seg{Addr: f.before.Start, Buf: make([]byte, 3*pageSize)})
		f.waits(2)
		f.execs()
		end()
		f.wait(read)
		read.check(t, want, remora.Seg{Err: remora.ErrGone}, remora.Seg{Err: remora.ErrGone})
		let()
		f.ended()
	})
}

// TestStuckFollowing: a call that is stuck in the program before keeps nobody from
// following the process into the next one.
func TestStuckFollowing(t *testing.T) {
	for _, ctx := range []context.Context{t.Context(), context.Background()} {
		f := freeze(t, Options{FollowExec: true}, 2, 1)
		let := f.keepStuck()
		stuck := f.start(ctx, remora.Read, remora.Seg{Addr: f.stuck.Start, Buf: make([]byte, 8)})
		f.waits(1)
		f.execs()
		for range 2 {
			tr := f.start(context.Background(), remora.Read, remora.Seg{Addr: f.before.Start, Buf: make([]byte, 2*pageSize)})
			f.wait(tr)
			tr.check(t, nil, remora.Seg{N: 2 * pageSize, Buf: f.contents(nil)})
		}
		text := []byte("after")
		tr := f.start(context.Background(), remora.Write, remora.Seg{Addr: f.before.Start, Buf: text})
		f.wait(tr)
		tr.check(t, nil, remora.Seg{N: len(text)})
		got := make([]byte, len(text))
		if err := f.Peek(got, f.before.Start); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%q, %v", got, err)
		}
		let()
		f.wait(stuck)
	}
}
