// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/memfault"
	"github.com/remora-go/remora/memtest"
)

const ps = 4096

// page is one kind of page in a world, with what must come of a read and a write.
type page struct {
	name        string
	opt         memtest.MapOptions
	read, write errno.Errno
}

const (
	r = remora.PermRead
	w = remora.PermWrite
	x = remora.PermExec
)

// kinds are all the kinds of page that FreeBSD tells apart, and a hole.
func kinds() []page {
	file := func() *memtest.Object { return memtest.NewObject(ps) }
	return []page{
		{name: "read-write", opt: memtest.MapOptions{Perm: r | w}},
		{name: "read-only private", opt: memtest.MapOptions{Perm: r, Object: file()}},
		{name: "text", opt: memtest.MapOptions{Perm: r | x, Object: file()}},
		{name: "read, write and execute", opt: memtest.MapOptions{Perm: r | w | x}},
		{name: "read-only anonymous", opt: memtest.MapOptions{Perm: r}},
		{name: "shared read-write", opt: memtest.MapOptions{Perm: r | w, Shared: true, Object: file()}},
		{name: "shared read-only", opt: memtest.MapOptions{Perm: r, Shared: true, Object: file()}, write: errno.EFAULT},
		{name: "no access", opt: memtest.MapOptions{}, read: errno.EFAULT, write: errno.EFAULT},
		{name: "execute-only", opt: memtest.MapOptions{Perm: x}, read: errno.EFAULT, write: errno.EFAULT},
		{name: "write-only", opt: memtest.MapOptions{Perm: w}, read: errno.EFAULT, write: errno.EFAULT},
		{name: "guard", opt: memtest.MapOptions{Perm: r | w, Fault: remora.ErrGuard}, read: errno.EFAULT, write: errno.EFAULT},
		{name: "beyond the end of the file", opt: memtest.MapOptions{Perm: r | w, Object: memtest.NewObject(1), Offset: ps},
			read: errno.EFAULT, write: errno.EFAULT},
		{name: "hole", opt: memtest.MapOptions{Fault: remora.ErrUnmapped}, read: errno.EFAULT, write: errno.EFAULT},
	}
}

const base = remora.Addr(0x100000)

func address(i int) remora.Addr { return base + remora.Addr(i*16*ps) }

// world is a Sparse with a page of each kind, apart from one another, each filled
// with its own number.
func world(t testing.TB) *memtest.Sparse {
	t.Helper()
	s := memtest.NewSparse(nil)
	for i, k := range kinds() {
		if k.opt.Fault == remora.ErrUnmapped {
			continue
		}
		mapPage(t, s, address(i), k.opt, byte(i+1))
	}
	return s
}

// mapPage maps one page full of b.
func mapPage(t testing.TB, s *memtest.Sparse, a remora.Addr, o memtest.MapOptions, b byte) {
	t.Helper()
	if err := s.Map(remora.Range{Start: a, Size: ps}, o); err != nil {
		t.Fatal(err)
	}
	if o.Fault == 0 && o.Offset == 0 {
		if err := s.Poke(bytes.Repeat([]byte{b}, ps), a); err != nil {
			t.Fatal(err)
		}
	}
}

// plain maps n readable and writable pages at base, page i full of i+1.
func plain(t testing.TB, n int) *memtest.Sparse {
	t.Helper()
	s := memtest.NewSparse(nil)
	for i := range n {
		mapPage(t, s, base+remora.Addr(i*ps), memtest.MapOptions{Perm: r | w}, byte(i+1))
	}
	return s
}

// held gives the process of a Space, held until the end of the test.
func held(t testing.TB, s remora.Space, o *Options) *Proc {
	t.Helper()
	p := New(s, o)
	hold(t, p)
	return p
}

func hold(t testing.TB, p *Proc) {
	t.Helper()
	if err := p.Hold(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Release()
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}

// faulty injects faults into a Space.
func faulty(t testing.TB, s remora.Space, rules string) remora.Space {
	t.Helper()
	f, err := memfault.New(s, rules)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// wantErrno fails unless err is an *Error with that number, or nil for 0.
func wantErrno(t testing.TB, err error, want errno.Errno) {
	t.Helper()
	got := errno.Errno(0)
	if err != nil {
		var e *Error
		if !errors.As(err, &e) {
			t.Fatalf("%v is no *Error", err)
		}
		if got = e.Errno; got != 0 && !errors.Is(err, got) {
			t.Errorf("%v is not its own number", err)
		}
	}
	if got != want {
		t.Errorf("error number %s (%v), want %s", got.Name(), err, want.Name())
	}
}

// wantProgress holds a Uio against how far it must have come.
func wantProgress(t testing.TB, u *Uio, from remora.Addr, asked, moved int64) {
	t.Helper()
	if u.Resid != asked-moved || u.Offset != from+remora.Addr(moved) {
		t.Errorf("residual %d at %v, want %d at %v", u.Resid, u.Offset, asked-moved, from+remora.Addr(moved))
	}
}

func wantBytes(t testing.TB, s *memtest.Sparse, a remora.Addr, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if err := s.Peek(got, a); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%v holds %x, want %x", a, short(got), short(want))
	}
}

func short(b []byte) []byte { return b[:min(len(b), 16)] }

// access is one segment that a Space was asked for.
type access struct {
	op   remora.Op
	addr remora.Addr
	n    int
}

// recorder notes what a Space is asked for.
type recorder struct {
	remora.Space
	all []access
}

func (r *recorder) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	for i := range segs {
		r.all = append(r.all, access{op, segs[i].Addr, len(segs[i].Buf)})
	}
	return r.Space.Transfer(ctx, op, segs)
}

func (r *recorder) Unwrap() any { return r.Space }

// mapless is a Space of which no mappings are known.
type mapless struct{ remora.Space }
