// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/memtest"
)

func TestR71DirectionOffsetAndResidual(t *testing.T) {
	s := plain(t, 2)
	p := held(t, s, nil)
	buf := make([]byte, 200)
	u := &Uio{Iov: []Iovec{{Buf: buf}}, Offset: base + ps - 100, Resid: 150}
	wantErrno(t, p.RWMem(t.Context(), u), 0)
	wantProgress(t, u, base+ps-100, 150, 150)
	want := append(bytes.Repeat([]byte{1}, 100), bytes.Repeat([]byte{2}, 50)...)
	if !bytes.Equal(buf, append(want, make([]byte, 50)...)) {
		t.Errorf("read %x", buf)
	}
	if len(u.Iov) != 1 || len(u.Iov[0].Buf) != 50 {
		t.Errorf("of the vector %v is left", u.Iov)
	}
	u = &Uio{Iov: []Iovec{{Buf: []byte("abcdef")}}, Offset: base + ps - 2, Resid: 4, RW: UIOWrite}
	wantErrno(t, p.RWMem(t.Context(), u), 0)
	wantProgress(t, u, base+ps-2, 4, 4)
	wantBytes(t, s, base+ps-3, []byte{1, 'a', 'b', 'c', 'd', 2})
}

func TestR71MustBeHeld(t *testing.T) {
	s := plain(t, 1)
	p := New(s, nil)
	u := &Uio{Iov: []Iovec{{Buf: make([]byte, 8)}}, Offset: base, Resid: 8}
	err := p.RWMem(t.Context(), u)
	wantErrno(t, err, errno.EINVAL)
	if !errors.Is(err, ErrNotHeld) {
		t.Error(err)
	}
	wantProgress(t, u, base, 8, 0)
	if n, err := p.WriteMem(t.Context(), nil, []byte{9}, base); n != -1 || !errors.Is(err, ErrNotHeld) {
		t.Errorf("%d, %v", n, err)
	}
	wantBytes(t, s, base, []byte{1})

	u.Thread = &Thread{Proc: New(s, nil)} // another process is not an exemption
	wantErrno(t, p.RWMem(t.Context(), u), errno.EINVAL)
	u.Thread.Proc = p
	wantErrno(t, p.RWMem(t.Context(), u), 0)
}

func TestR72PageByPage(t *testing.T) {
	for _, rw := range []Direction{UIORead, UIOWrite} {
		rec := &recorder{Space: plain(t, 3)}
		p := held(t, rec, nil)
		u := &Uio{Iov: []Iovec{{Buf: make([]byte, 2*ps)}}, Offset: base + 100, Resid: 2 * ps, RW: rw}
		wantErrno(t, p.RWMem(t.Context(), u), 0)
		op := u.op()
		want := []access{{op, base + 100, ps - 100}, {op, base + ps, ps}, {op, base + 2*ps, 100}}
		if fmt.Sprint(rec.all) != fmt.Sprint(want) {
			t.Errorf("%v: asked for %v, want %v", op, rec.all, want)
		}
	}
}

// A granule of another size is the page.
func TestR72PageIsTheGranule(t *testing.T) {
	for size, want := range map[uint32]uint64{1: 4096, 0: 4096, 256: 4096, 512: 512, 16384: 16384, 3000: 4096} {
		if got := pageSize(size); got != want {
			t.Errorf("granule %d: a page of %d, want %d", size, got, want)
		}
	}
}

func TestR72ProgressShowsAfterAnError(t *testing.T) {
	for _, rw := range []Direction{UIORead, UIOWrite} {
		p := held(t, plain(t, 2), nil)
		u := &Uio{Iov: []Iovec{{Buf: make([]byte, 10)}, {Buf: make([]byte, 4*ps)}}, Offset: base + 100, Resid: 3 * ps, RW: rw}
		err := p.RWMem(t.Context(), u)
		wantErrno(t, err, errno.EFAULT)
		wantProgress(t, u, base+100, 3*ps, 2*ps-100)
		if len(u.Iov) != 1 || len(u.Iov[0].Buf) != 4*ps-(2*ps-110) {
			t.Errorf("%d elements are left", len(u.Iov))
		}
		var e *Error
		if !errors.As(err, &e) || e.Addr != base+2*ps || e.Caller || e.Op != u.op() {
			t.Errorf("%+v", e)
		}
	}
}

func TestR73ShortageIsENOMEM(t *testing.T) {
	for cause, want := range map[string]errno.Errno{
		"busy": errno.ENOMEM, "unmapped": errno.EFAULT, "protected": errno.EFAULT, "beyond-eof": errno.EFAULT, "guard": errno.EFAULT,
		"io": errno.EFAULT, "not-saved": errno.EFAULT, "poisoned": errno.EFAULT, "gone": errno.EFAULT, "device": errno.EFAULT,
	} {
		for _, rw := range []Direction{UIORead, UIOWrite} {
			s := plain(t, 3)
			p := held(t, faulty(t, s, fmt.Sprintf("any %v+%d %s", base+ps, ps, cause)), nil)
			u := &Uio{Iov: []Iovec{{Buf: bytes.Repeat([]byte{7}, 3*ps)}}, Offset: base + 10, Resid: 2 * ps, RW: rw}
			wantErrno(t, p.RWMem(t.Context(), u), want)
			wantProgress(t, u, base+10, 2*ps, ps-10)
			wantBytes(t, s, base+ps, bytes.Repeat([]byte{2}, ps))
		}
	}
}

// refusing fails every transfer of one direction with one error.
type refusing struct {
	remora.Space
	op  remora.Op
	err error
}

func (f *refusing) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if op&remora.Write != f.op {
		return f.Space.Transfer(ctx, op, segs)
	}
	for i := range segs {
		segs[i].N, segs[i].Err = 0, f.err
	}
	return 0, f.err
}

func TestR73NumbersOfCauses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want errno.Errno
	}{
		{errno.ENOMEM, errno.ENOMEM},
		{fmt.Errorf("no page: %w", errno.ENOMEM), errno.ENOMEM},
		{remora.ErrBusy, errno.ENOMEM},
		{remora.ErrFault, errno.EFAULT},
		{remora.ErrGone, errno.EFAULT},
		{remora.ErrReadOnly, errno.EPERM},
		{context.Canceled, errno.EINTR},
		{context.DeadlineExceeded, errno.EINTR},
		{remora.ErrInDoubt, errno.EINTR},
		{errors.New("what is this"), errno.EFAULT},
		{fs.ErrClosed, errno.EFAULT},
	} {
		p := held(t, &refusing{plain(t, 1), remora.Read, c.err}, nil)
		n, err := p.ReadMem(t.Context(), nil, make([]byte, 8), base)
		wantErrno(t, err, c.want)
		if n != -1 || !errors.Is(err, c.err) {
			t.Errorf("%v: %d, %v", c.err, n, err)
		}
	}
}

// An error of the vector's own memory has the same number as one of the process.
func TestR73FaultOfTheCaller(t *testing.T) {
	for _, rw := range []Direction{UIORead, UIOWrite} {
		s, user := plain(t, 1), plain(t, 1)
		p := held(t, s, nil)
		td := &Thread{Memory: user}
		u := &Uio{Iov: []Iovec{{Base: base, Len: 5}, {Base: base + ps - 3, Len: 8}}, Offset: base + 64, Resid: 13,
			RW: rw, Seg: UserSpace, Thread: td}
		err := p.RWMem(t.Context(), u)
		wantErrno(t, err, errno.EFAULT)
		wantProgress(t, u, base+64, 13, 5)
		var e *Error
		if !errors.As(err, &e) || !e.Caller || e.Addr != base+ps {
			t.Errorf("%+v", e)
		}
		if rw == UIOWrite {
			wantBytes(t, s, base+64+5, bytes.Repeat([]byte{1}, 8))
		}
		td.Memory = faulty(t, user, "any everywhere busy")
		wantErrno(t, p.RWMem(t.Context(), u), errno.ENOMEM)
	}
}

// The page is faulted before the vector is looked at.
func TestR73ProcessBeforeCaller(t *testing.T) {
	for _, rw := range []Direction{UIORead, UIOWrite} {
		p := held(t, faulty(t, plain(t, 1), "read everywhere busy"), nil)
		u := &Uio{Iov: []Iovec{{Len: 8}}, Offset: base, Resid: 8, RW: rw, Seg: UserSpace, Thread: &Thread{Memory: plain(t, 1)}}
		wantErrno(t, p.RWMem(t.Context(), u), errno.ENOMEM)
	}
}

func TestR77NoBytesFaultOnePage(t *testing.T) {
	for i, k := range kinds() {
		for _, m := range []bool{false, true} {
			s := world(t)
			before := s.Clone()
			p := held(t, s, nil)
			if m {
				p = held(t, mapless{s}, nil)
			}
			wantErrno(t, p.RWMem(t.Context(), &Uio{Offset: address(i) + 5}), k.read)
			if m && k.name == "shared read-only" {
				continue // without a map only a write would tell
			}
			wantErrno(t, p.RWMem(t.Context(), &Uio{Offset: address(i) + 5, RW: UIOWrite}), k.write)
			if !before.Equal(s) {
				t.Errorf("%s: %s", k.name, before.Diff(s))
			}
		}
	}
	rec := &recorder{Space: plain(t, 2)}
	p := held(t, rec, nil)
	wantErrno(t, p.RWMem(t.Context(), &Uio{Offset: base + ps - 1}), 0)
	if fmt.Sprint(rec.all) != fmt.Sprint([]access{{remora.Read, base + ps - 1, 1}}) {
		t.Errorf("faulted %v", rec.all)
	}
	// With a residual of 0 the vector does not matter, nor do empty elements before bytes.
	u := &Uio{Iov: []Iovec{{Buf: make([]byte, 4)}}, Offset: base + 2*ps}
	wantErrno(t, p.RWMem(t.Context(), u), errno.EFAULT)
}

func TestR78SimpleForms(t *testing.T) {
	s := plain(t, 2)
	p := held(t, s, nil)
	buf := make([]byte, ps)
	if n, err := p.ReadMem(t.Context(), nil, buf[:10], base+ps-5); n != 10 || err != nil || !bytes.Equal(buf[:10], []byte{1, 1, 1, 1, 1, 2, 2, 2, 2, 2}) {
		t.Error(n, err, buf[:10])
	}
	if n, err := p.WriteMem(t.Context(), nil, []byte("abc"), base+ps-1); n != 3 || err != nil {
		t.Error(n, err)
	}
	wantBytes(t, s, base+ps-2, []byte("\x01abc\x02"))
	for _, rw := range []func(context.Context, *Thread, []byte, remora.Addr) (int, error){p.ReadMem, p.WriteMem} {
		n, err := rw(t.Context(), nil, buf, base+2*ps-7)
		if n != 7 {
			t.Error("a part is a count:", n)
		}
		wantErrno(t, err, errno.EFAULT)
		if n, err = rw(t.Context(), nil, buf, base+2*ps); n != -1 || !errors.Is(err, remora.ErrUnmapped) {
			t.Error(n, err)
		}
		wantErrno(t, err, errno.EFAULT)
	}
	short := held(t, faulty(t, s, "any everywhere busy"), nil)
	n, err := short.ReadMem(t.Context(), nil, buf, base)
	wantErrno(t, err, errno.ENOMEM)
	if n != -1 || err.Error() != "read sparse:0x100000: cannot allocate memory: too many calls are stuck in the system" {
		t.Error(n, err)
	}
}

func TestR79NoBytesAreMinusOne(t *testing.T) {
	p := held(t, plain(t, 1), nil)
	for _, rw := range []func(context.Context, *Thread, []byte, remora.Addr) (int, error){p.ReadMem, p.WriteMem} {
		n, err := rw(t.Context(), nil, nil, base)
		wantErrno(t, err, 0)
		if n != -1 || !errors.Is(err, ErrNothing) {
			t.Error(n, err)
		}
		n, err = rw(t.Context(), nil, nil, base+ps)
		wantErrno(t, err, errno.EFAULT)
		if n != -1 || errors.Is(err, ErrNothing) {
			t.Error(n, err)
		}
	}
}

func TestR80LengthOfSSIZEMAX(t *testing.T) {
	rec := &recorder{Space: plain(t, 1)}
	p := held(t, rec, nil)
	for _, n := range []int64{-1, math.MinInt64, math.MaxInt64} {
		for _, rw := range []Direction{UIORead, UIOWrite} {
			u := &Uio{Iov: []Iovec{{Len: math.MaxUint64}}, Offset: base, Resid: n, RW: rw, Seg: NoCopy}
			wantErrno(t, p.RWMem(t.Context(), u), errno.EINVAL)
			wantProgress(t, u, base, n, 0)
		}
	}
	if len(rec.all) != 0 {
		t.Error("touched", rec.all)
	}
	u := &Uio{Iov: []Iovec{{Len: math.MaxUint64}}, Offset: base, Resid: math.MaxInt64 - 1, Seg: NoCopy}
	wantErrno(t, p.RWMem(t.Context(), u), errno.EFAULT)
	wantProgress(t, u, base, math.MaxInt64-1, ps)
}

func TestR81PageGranular(t *testing.T) {
	for _, rw := range []Direction{UIORead, UIOWrite} {
		p := held(t, plain(t, 1), nil)
		n, err := p.simple(t.Context(), rw, nil, make([]byte, 2*ps), base+100)
		if n != ps-100 {
			t.Errorf("%d bytes, want %d", n, ps-100)
		}
		wantErrno(t, err, errno.EFAULT)
	}
}

// A Space may fault inside a page: what is before that byte is moved, and counted.
func TestR81FaultInsideAPage(t *testing.T) {
	s := plain(t, 1)
	s.Inject(base+200, remora.Read, remora.ErrPoisoned)
	s.Inject(base+300, remora.Write, remora.ErrPoisoned)
	p := held(t, s, nil)
	buf := bytes.Repeat([]byte{0xee}, ps)
	if n, _ := p.ReadMem(t.Context(), nil, buf, base+100); n != 100 || buf[99] != 1 || buf[100] != 0xee {
		t.Errorf("%d bytes, %x", n, buf[98:102])
	}
	if n, err := p.WriteMem(t.Context(), nil, bytes.Repeat([]byte{0xee}, ps), base+250); n != 50 || !errors.Is(err, remora.ErrPoisoned) {
		t.Error(n, err)
	}
	wantBytes(t, s, base+299, []byte{0xee, 1})
}

// The 32-bit minimum of older versions would compute a part of 0 bytes, for ever.
func TestR82ResidualOf4GiB(t *testing.T) {
	for _, resid := range []int64{1 << 32, 5 << 32, 1<<32 + 1} {
		for _, rw := range []Direction{UIORead, UIOWrite} {
			p := held(t, plain(t, 3), nil)
			user := memtest.NewSparse(nil)
			if err := user.Map(remora.Range{Start: base, Size: 8 << 32}, memtest.MapOptions{Perm: r | w}); err != nil {
				t.Fatal(err)
			}
			u := &Uio{Iov: []Iovec{{Base: base, Len: 8 << 32}}, Offset: base + 1, Resid: resid, RW: rw, Seg: UserSpace, Thread: &Thread{Memory: user}}
			wantErrno(t, p.RWMem(t.Context(), u), errno.EFAULT)
			wantProgress(t, u, base+1, resid, 3*ps-1)
		}
	}
}

func TestR83GuardBelowAStack(t *testing.T) {
	s := plain(t, 2)
	if err := s.Map(remora.Range{Start: base - ps, Size: ps}, memtest.MapOptions{Perm: r | w, Fault: remora.ErrGuard}); err != nil {
		t.Fatal(err)
	}
	before := s.Clone()
	p := held(t, s, nil)
	for _, td := range []*Thread{nil, {Proc: p}} {
		for _, a := range []remora.Addr{base - 8, base - 2*ps} {
			n, err := p.WriteMem(t.Context(), td, make([]byte, 16), a)
			wantErrno(t, err, errno.EFAULT)
			if n != -1 {
				t.Error(n)
			}
		}
	}
	if !before.Equal(s) {
		t.Error(before.Diff(s))
	}
}

func TestR87ShortageOfTheCopyOnly(t *testing.T) {
	s := world(t)
	p := held(t, &refusing{s, remora.Write, errno.ENOMEM}, nil)
	if n, err := p.ReadMem(t.Context(), nil, make([]byte, 8), address(1)); n != 8 || err != nil {
		t.Error(n, err)
	}
	n, err := p.WriteMem(t.Context(), nil, make([]byte, 8), address(1))
	wantErrno(t, err, errno.ENOMEM)
	if n != -1 {
		t.Error(n)
	}
}

func TestLastAddress(t *testing.T) {
	s := memtest.NewSparse(nil)
	last := ^remora.Addr(0) &^ (ps - 1)
	mapPage(t, s, last, memtest.MapOptions{Perm: r | w}, 4)
	mapPage(t, s, 0, memtest.MapOptions{Perm: r | w}, 5)
	p := held(t, s, nil)
	for _, rw := range []Direction{UIORead, UIOWrite} {
		n, err := p.simple(t.Context(), rw, nil, make([]byte, 200), last+ps-100)
		wantErrno(t, err, errno.EFAULT)
		if n != 100 {
			t.Error(n)
		}
		if n, err := p.simple(t.Context(), rw, nil, make([]byte, 100), last+ps-100); n != 100 || err != nil {
			t.Error(n, err)
		}
	}
	wantBytes(t, s, 0, []byte{5, 5, 5, 5})
}

func TestContextEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := held(t, plain(t, 1), nil)
	for _, rw := range []Direction{UIORead, UIOWrite} {
		n, err := p.simple(ctx, rw, nil, make([]byte, 8), base)
		wantErrno(t, err, errno.EINTR)
		if n != -1 || !errors.Is(err, context.Canceled) {
			t.Error(n, err)
		}
	}
}
