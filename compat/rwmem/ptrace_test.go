// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"bytes"
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/memtest"
)

func TestR84OneInt(t *testing.T) {
	for _, big := range []bool{false, true} {
		s := memtest.NewSparse(&memtest.SparseOptions{BigEndian: big})
		mapPage(t, s, base, memtest.MapOptions{Perm: r | x, Object: memtest.NewObject(ps)}, 0)
		p := New(s, nil)
		if err := p.PTWrite(t.Context(), nil, -2, base+1); err != nil {
			t.Fatal(err)
		}
		want := []byte{0, 0xfe, 0xff, 0xff, 0xff, 0}
		if big {
			want = []byte{0, 0xff, 0xff, 0xff, 0xfe, 0}
		}
		wantBytes(t, s, base, want)
		if v, err := p.PTRead(t.Context(), nil, base+1); v != -2 || err != nil {
			t.Errorf("%d, %v", v, err)
		}
		for _, a := range []remora.Addr{base + ps - 2, base + ps, 0} {
			v, err := p.PTRead(t.Context(), nil, a)
			wantErrno(t, err, errno.ENOMEM)
			if v != 0 || !errors.Is(err, remora.ErrUnmapped) {
				t.Error(v, err)
			}
			wantErrno(t, p.PTWrite(t.Context(), nil, -1, a), errno.ENOMEM)
		}
		wantBytes(t, s, base+ps-3, []byte{0, 0xff, 0xff}) // a part has been written
	}
}

func TestR84PTIO(t *testing.T) {
	s, user := plain(t, 2), plain(t, 3)
	p := New(s, nil)
	td := &Thread{Memory: user}
	for _, c := range []struct {
		op     IOOp
		offset remora.Addr
		n      uint64
		want   errno.Errno
	}{
		{IOReadD, base + 10, ps, 0},
		{IOReadI, base + 10, 2 * ps, errno.EFAULT},
		{IOWriteD, base + 10, ps, 0},
		{IOWriteI, base + ps + 10, ps, errno.EFAULT},
		{IOWriteD, base, 0, 0},
		{IOReadD, base + 2*ps, 0, errno.EFAULT},
		{0, base, 1, errno.EINVAL},
		{5, base, 1, errno.EINVAL},
		{IOReadD, base, 1 << 63, errno.EINVAL},
	} {
		d := &IODesc{Op: c.op, Offset: c.offset, Addr: base + ps/2, Len: c.n}
		was := *d
		wantErrno(t, p.PTIO(t.Context(), td, d), c.want)
		if *d != was {
			t.Errorf("%+v became %+v", was, *d)
		}
	}
	// What was moved before the fault is there, though nobody is told.
	got := make([]byte, 4)
	if err := user.Peek(got, base+ps/2+2*ps-11); err != nil || !bytes.Equal(got, []byte{2, 3, 3, 3}) {
		t.Error(got, err)
	}
	if err := user.Poke([]byte("remora"), base); err != nil {
		t.Fatal(err)
	}
	wantErrno(t, p.PTIO(t.Context(), td, &IODesc{Op: IOWriteI, Offset: base + ps + 20, Addr: base, Len: 6}), 0)
	wantBytes(t, s, base+ps+19, []byte("\x01remora\x01"))
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	wantErrno(t, p.PTIO(t.Context(), td, &IODesc{Op: IOReadD, Offset: base, Addr: base, Len: 1}), errno.ESRCH)
	_, err := p.PTRead(t.Context(), nil, base)
	wantErrno(t, err, errno.ESRCH)
}
