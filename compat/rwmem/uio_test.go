// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/memtest"
)

// uiomove(9): elements in order, empty ones passed over, never more than the residual.
func TestR72UioMove(t *testing.T) {
	a, b := make([]byte, 3), make([]byte, 5)
	u := &Uio{Iov: []Iovec{{}, {Buf: a}, {}, {Buf: b}}, Offset: 100, Resid: 7}
	if err := u.Move(t.Context(), []byte("hello")); err != nil {
		t.Fatal(err)
	}
	wantProgress(t, u, 100, 7, 5)
	if err := u.Move(t.Context(), []byte("world")); err != nil {
		t.Fatal(err)
	}
	wantProgress(t, u, 100, 7, 7)
	if string(a) != "hel" || string(b) != "lowo\x00" || len(u.Iov) != 1 || len(u.Iov[0].Buf) != 1 {
		t.Errorf("%q %q, %v", a, b, u.Iov)
	}
	if err := u.Move(t.Context(), []byte("more")); err != nil || u.Resid != 0 || b[4] != 0 {
		t.Errorf("beyond the residual: %v, %+v", err, u)
	}
	out := make([]byte, 6)
	u = &Uio{Iov: []Iovec{{Buf: []byte("ab")}, {Buf: []byte("cdef")}}, Resid: 6, RW: UIOWrite}
	if err := u.Move(t.Context(), out[:3]); err != nil || string(out) != "abc\x00\x00\x00" || u.Resid != 3 || u.Offset != 3 {
		t.Errorf("%q, %v, %+v", out, err, u)
	}
}

func TestR72VectorShorterThanTheResidual(t *testing.T) {
	for _, rw := range []Direction{UIORead, UIOWrite} {
		s := plain(t, 1)
		p := held(t, s, nil)
		u := &Uio{Iov: []Iovec{{Buf: []byte("abc")}}, Offset: base, Resid: 8, RW: rw}
		err := p.RWMem(t.Context(), u)
		wantErrno(t, err, errno.EINVAL)
		wantProgress(t, u, base, 8, 3)
		if !errors.Is(err, errShortVector) {
			t.Error(err)
		}
		if rw == UIOWrite {
			wantBytes(t, s, base, []byte("abc\x01"))
		}
	}
}

func TestR73UserSpaceOfNobody(t *testing.T) {
	for _, td := range []*Thread{nil, {}} {
		for _, rw := range []Direction{UIORead, UIOWrite} {
			p := held(t, plain(t, 1), nil)
			u := &Uio{Iov: []Iovec{{Base: base, Len: 8}}, Offset: base, Resid: 8, RW: rw, Seg: UserSpace, Thread: td}
			wantErrno(t, p.RWMem(t.Context(), u), errno.EINVAL)
			wantProgress(t, u, base, 8, 0)
		}
	}
}

func TestR72NoCopy(t *testing.T) {
	for _, rw := range []Direction{UIORead, UIOWrite} {
		s := plain(t, 2)
		before := s.Clone()
		p := held(t, s, nil)
		u := &Uio{Iov: []Iovec{{Len: 3 * ps}}, Offset: base + 1, Resid: 3 * ps, RW: rw, Seg: NoCopy}
		wantErrno(t, p.RWMem(t.Context(), u), errno.EFAULT)
		wantProgress(t, u, base+1, 3*ps, 2*ps-1)
		if !before.Equal(s) {
			t.Error(before.Diff(s))
		}
	}
}

// Random layouts and vectors of every segment, against a model that goes byte by byte.
func TestR72AgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const pages = 6
		mapped := rapid.SliceOfN(rapid.Bool(), pages, pages).Draw(t, "mapped")
		s, user := memtest.NewSparse(nil), memtest.NewSparse(nil)
		for i, yes := range mapped {
			at := remora.Range{Start: base + remora.Addr(i*ps), Size: ps}
			if yes {
				must(t, s.Map(at, memtest.MapOptions{Perm: r | w}))
				must(t, s.Poke(bytes.Repeat([]byte{byte(i + 1)}, ps), at.Start))
			}
			must(t, user.Map(at, memtest.MapOptions{Perm: r | w}))
			must(t, user.Poke(bytes.Repeat([]byte{byte(i + 101)}, ps), at.Start))
		}
		u := &Uio{
			Offset: base + remora.Addr(rapid.IntRange(0, pages*ps-1).Draw(t, "offset")),
			RW:     Direction(rapid.IntRange(0, 1).Draw(t, "direction")),
			Seg:    Segment(rapid.IntRange(0, 1).Draw(t, "segment")),
			Thread: &Thread{Memory: user},
		}
		whole := bytes.Repeat([]byte{0xaa}, pages*ps)
		if u.Seg == UserSpace {
			must(t, user.Peek(whole, base))
		}
		rest, at := whole, base
		for _, n := range rapid.SliceOfN(rapid.IntRange(0, 2*ps), 1, 5).Draw(t, "lengths") {
			n = min(n, len(rest))
			if u.Seg == UserSpace {
				u.Iov = append(u.Iov, Iovec{Base: at, Len: uint64(n)})
			} else {
				u.Iov = append(u.Iov, Iovec{Buf: rest[:n:n]})
			}
			rest, at = rest[n:], at+remora.Addr(n)
		}
		total := len(whole) - len(rest)
		u.Resid = int64(rapid.IntRange(0, total).Draw(t, "residual"))

		// The model: the bytes up to the first page that is not mapped.
		want := int(u.Resid)
		fault := false
		for i := range want + 1 {
			if i == want && want > 0 {
				break
			}
			if no := int(u.Offset-base+remora.Addr(i)) / ps; no >= pages || !mapped[no] {
				want, fault = i, true
				break
			}
		}
		vector, target := bytes.Clone(whole), make([]byte, want)
		must(t, s.Peek(target, u.Offset))
		from, resid := u.Offset, u.Resid
		err := New(s, nil).heldRWMem(t, u)
		if (err != nil) != fault || u.Resid != resid-int64(want) || u.Offset != from+remora.Addr(want) {
			t.Fatalf("%v; residual %d of %d, want %d moved, fault %v", err, u.Resid, resid, want, fault)
		}
		if u.RW == UIORead {
			copy(vector, target)
		} else {
			copy(target, vector)
		}
		got := make([]byte, want)
		must(t, s.Peek(got, from))
		if !bytes.Equal(got, target) {
			t.Fatal("the process holds other bytes")
		}
		if u.Seg == UserSpace {
			must(t, user.Peek(whole, base))
		}
		if !bytes.Equal(whole, vector) {
			t.Fatal("the vector holds other bytes")
		}
	})
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

func (p *Proc) heldRWMem(t *rapid.T, u *Uio) error {
	must(t, p.Hold())
	defer p.Release()
	return p.RWMem(t.Context(), u)
}
