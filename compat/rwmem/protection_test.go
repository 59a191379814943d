// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/memtest"
)

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

// changing does something after each transfer.
type changing struct {
	*memtest.Sparse
	do func()
}

func (c *changing) Unwrap() any { return c.Sparse }

func (c *changing) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	n, err := c.Sparse.Transfer(ctx, op, segs)
	c.do()
	return n, err
}

// What is read-only is looked up for each page: nothing else would keep a forced write
// from a page that has become unreadable in between.
func TestR74MapChangesBetweenPages(t *testing.T) {
	s := memtest.NewSparse(nil)
	if err := s.Map(remora.Range{Start: base, Size: 2 * ps}, memtest.MapOptions{Perm: r}); err != nil {
		t.Fatal(err)
	}
	c := &changing{Sparse: s, do: func() {
		if err := s.Protect(remora.Range{Start: base + ps, Size: ps}, 0); err != nil {
			t.Error(err)
		}
	}}
	n, err := held(t, c, nil).WriteMem(t.Context(), nil, bytes.Repeat([]byte{1}, 2*ps), base)
	wantErrno(t, err, errno.EFAULT)
	if n != ps {
		t.Errorf("%d bytes", n)
	}
	wantBytes(t, s, base+ps-1, []byte{1, 0})
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
