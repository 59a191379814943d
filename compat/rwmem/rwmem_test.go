// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
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

func TestR74EveryKindOfPage(t *testing.T) {
	for i, k := range kinds() {
		t.Run(k.name, func(t *testing.T) {
			s := world(t)
			p := held(t, s, nil)
			buf := make([]byte, 8)
			u := &Uio{Iov: []Iovec{{Buf: buf}}, Offset: address(i) + 16, Resid: 8}
			wantErrno(t, p.RWMem(t.Context(), u), k.read)
			if k.read == 0 && !bytes.Equal(buf, bytes.Repeat([]byte{byte(i + 1)}, 8)) {
				t.Errorf("read %x", buf)
			}
			before := s.Clone()
			u = &Uio{Iov: []Iovec{{Buf: []byte("breakpnt")}}, Offset: address(i) + 16, Resid: 8, RW: UIOWrite}
			err := p.RWMem(t.Context(), u)
			wantErrno(t, err, k.write)
			if k.write != 0 {
				wantProgress(t, u, address(i)+16, 8, 0)
				if d := before.Diff(s); d != "" || !errors.Is(err, remora.ErrFault) {
					t.Errorf("%v; changed: %s", err, d)
				}
				return
			}
			wantBytes(t, s, address(i)+16, []byte("breakpnt"))
		})
	}
}

// A private file gets a copy of the page; the file stays as it was. A shared one is
// changed in place.
func TestR74PrivateCopy(t *testing.T) {
	file := memtest.NewObject(ps)
	s := memtest.NewSparse(nil)
	mapPage(t, s, base, memtest.MapOptions{Perm: r | w, Object: file, Shared: true}, 5)
	mapPrivate := func(a remora.Addr, perm remora.Perm) {
		if err := s.Map(remora.Range{Start: a, Size: ps}, memtest.MapOptions{Perm: perm, Object: file}); err != nil {
			t.Fatal(err)
		}
	}
	mapPrivate(base+2*ps, r|x)
	mapPrivate(base+4*ps, r|w)
	p := held(t, s, nil)
	for _, a := range []remora.Addr{base + 2*ps, base + 4*ps} {
		if n, err := p.WriteMem(t.Context(), nil, []byte{0xcc}, a); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		wantBytes(t, s, a, []byte{0xcc, 5})
		wantBytes(t, s, base, []byte{5, 5})
	}
	if n, err := p.WriteMem(t.Context(), nil, []byte{6}, base+1); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	wantBytes(t, s, base, []byte{5, 6})
	wantBytes(t, s, base+2*ps, []byte{0xcc, 5}) // its own by now
}

// Without a map a page is written if it can be read.
func TestR74WithoutAMap(t *testing.T) {
	for i, k := range kinds() {
		s := world(t)
		p := held(t, mapless{s}, nil)
		_, err := p.ReadMem(t.Context(), nil, make([]byte, 8), address(i))
		wantErrno(t, err, k.read)
		before := s.Clone()
		_, err = p.WriteMem(t.Context(), nil, []byte("12345678"), address(i))
		wantErrno(t, err, k.write)
		if k.write != 0 && !before.Equal(s) {
			t.Errorf("%s: %s", k.name, before.Diff(s))
		}
	}
}

// maximum is a Space that knows which shared mappings may be made writable.
type maximum struct {
	*memtest.Sparse
	may map[remora.Addr]bool // by page
	got []string
}

func (m *maximum) Unwrap() any { return m.Sparse }

func (m *maximum) WriteShared(_ context.Context, p []byte, a remora.Addr) (int, error) {
	m.got = append(m.got, fmt.Sprintf("%v+%d", a, len(p)))
	if !m.may[a&^(ps-1)] {
		return 0, remora.ErrProtected
	}
	return len(p), m.Poke(p, a)
}

func TestR74MaximumProtection(t *testing.T) {
	s := memtest.NewSparse(nil)
	file := memtest.NewObject(4 * ps)
	if err := s.Map(remora.Range{Start: base, Size: 2 * ps}, memtest.MapOptions{Perm: r, Shared: true, Object: file}); err != nil {
		t.Fatal(err)
	}
	mapPage(t, s, base+2*ps, memtest.MapOptions{Perm: w, Shared: true, Object: memtest.NewObject(ps)}, 3)
	m := &maximum{Sparse: s, may: map[remora.Addr]bool{base: true, base + 2*ps: true}}
	p := held(t, m, nil)
	u := &Uio{Iov: []Iovec{{Buf: bytes.Repeat([]byte{9}, ps)}}, Offset: base + ps - 4, Resid: 8, RW: UIOWrite}
	wantErrno(t, p.RWMem(t.Context(), u), errno.EFAULT)
	wantProgress(t, u, base+ps-4, 8, 4)
	wantBytes(t, s, base+ps-5, []byte{0, 9, 9, 9, 9, 0, 0, 0, 0})
	_, err := p.WriteMem(t.Context(), nil, []byte{1}, base+2*ps) // not readable: whatever the maximum is
	wantErrno(t, err, errno.EFAULT)
	u = &Uio{Offset: base + 1, RW: UIOWrite}
	wantErrno(t, p.RWMem(t.Context(), u), 0)
	u.Offset += ps
	wantErrno(t, p.RWMem(t.Context(), u), errno.EFAULT)
	if got, want := strings.Join(m.got, " "), "0x100ffc+4 0x101000+4 0x100001+0 0x101001+0"; got != want {
		t.Errorf("asked for %s, want %s", got, want)
	}
}

func TestR75WritePrivilege(t *testing.T) {
	s := plain(t, 1)
	before := s.Clone()
	p := held(t, s, &Options{NeedPrivilege: true})
	for _, td := range []*Thread{nil, {}, {Proc: p}} {
		for _, n := range []int64{0, 1} {
			u := &Uio{Iov: []Iovec{{Buf: []byte{9}}}, Offset: base, Resid: n, RW: UIOWrite, Thread: td}
			err := p.RWMem(t.Context(), u)
			wantErrno(t, err, errno.EPERM)
			if !errors.Is(err, fs.ErrPermission) || errors.Is(err, remora.ErrFault) {
				t.Error(err)
			}
		}
		if n, err := p.ReadMem(t.Context(), td, make([]byte, 1), base); n != 1 || err != nil {
			t.Error("reading needs no privilege:", n, err)
		}
	}
	wantErrno(t, p.RWMem(t.Context(), &Uio{Offset: 0, RW: UIOWrite}), errno.EPERM) // before the fault
	if !before.Equal(s) {
		t.Error(before.Diff(s))
	}
	if n, err := p.WriteMem(t.Context(), &Thread{Privileged: true}, []byte{9}, base); n != 1 || err != nil {
		t.Error(n, err)
	}
	wantBytes(t, s, base, []byte{9})
	if n, err := held(t, s, nil).WriteMem(t.Context(), nil, []byte{8}, base); n != 1 || err != nil {
		t.Error("without the rule everybody may:", n, err)
	}
}

func TestR75ReadOnlySpace(t *testing.T) {
	s := memtest.NewSparse(&memtest.SparseOptions{ReadOnly: true})
	mapPage(t, s, base, memtest.MapOptions{Perm: r | w}, 1)
	p := held(t, s, nil)
	n, err := p.WriteMem(t.Context(), nil, []byte{9}, base)
	wantErrno(t, err, errno.EPERM)
	if n != -1 || !errors.Is(err, remora.ErrReadOnly) {
		t.Error(n, err)
	}
	wantErrno(t, p.RWMem(t.Context(), &Uio{Offset: base, RW: UIOWrite}), errno.EPERM)
}

// synced is a Space with an instruction cache.
type synced struct {
	*memtest.Sparse
	all []remora.Range
	err error
}

func (s *synced) Unwrap() any { return s.Sparse }

func (s *synced) SyncInstructions(_ context.Context, r remora.Range) error {
	s.all = append(s.all, r)
	return s.err
}

func TestR76InstructionCache(t *testing.T) {
	s := memtest.NewSparse(nil)
	for i, perm := range []remora.Perm{r | x, r | w | x, r | w, r} {
		mapPage(t, s, base+remora.Addr(i*ps), memtest.MapOptions{Perm: perm}, 1)
	}
	y := &synced{Sparse: s}
	p := held(t, y, nil)
	buf := make([]byte, 4*ps)
	if n, err := p.WriteMem(t.Context(), nil, buf, base+10); n != 4*ps-10 {
		t.Error(n, err)
	}
	want := []remora.Range{{Start: base + 10, Size: ps - 10}, {Start: base + ps, Size: ps}}
	if fmt.Sprint(y.all) != fmt.Sprint(want) {
		t.Errorf("synced %v, want %v", y.all, want)
	}
	y.all = nil
	if n, err := p.ReadMem(t.Context(), nil, buf[:8], base); n != 8 || err != nil {
		t.Error(n, err)
	}
	s.Inject(base+100, remora.Write, remora.ErrPoisoned)
	if n, err := p.WriteMem(t.Context(), nil, buf[:8], base+96); n != 4 {
		t.Error(n, err)
	}
	if fmt.Sprint(y.all) != fmt.Sprint([]remora.Range{{Start: base + 96, Size: 4}}) {
		t.Errorf("synced %v", y.all)
	}
	if n, _ := p.WriteMem(t.Context(), nil, buf[:8], base+100); n != -1 || len(y.all) != 1 {
		t.Errorf("%d written, synced %v", n, y.all)
	}
	y.err = errors.New("no cache")
	if n, err := p.WriteMem(t.Context(), nil, buf[:8], base); n != 8 || !errors.Is(err, y.err) {
		t.Errorf("%d written, %v", n, err)
	}
}

// On Linux the debugger's way of writing is the one that makes the cache see it.
func TestR76ExecutableIsForced(t *testing.T) {
	rec := &recorder{Space: world(t)}
	p := held(t, rec, nil)
	want := map[string]remora.Op{"read-write": remora.Write, "text": remora.Write | remora.Force, "shared read-write": remora.Write,
		"read, write and execute": remora.Write | remora.Force, "read-only private": remora.Write | remora.Force}
	for i, k := range kinds() {
		rec.all = nil
		_, _ = p.WriteMem(t.Context(), nil, []byte{1}, address(i))
		if op, ok := want[k.name]; ok && (len(rec.all) != 1 || rec.all[0].op != op) {
			t.Errorf("%s: %v, want %v", k.name, rec.all, op)
		}
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
