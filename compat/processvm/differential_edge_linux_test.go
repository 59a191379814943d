// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package processvm

import (
	"bytes"
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/memtest"
)

// At the last page that a program can map, it shows that addresses are checked before
// memory is: what lies below the end is there, and still nothing of it is used.
func TestKernelR8LastPage(t *testing.T) {
	limit := uint64(diffLimit(t))
	caller, target := specimentest.Start(t, nil), specimentest.Start(t, &specimen.Options{Seed: 1})
	last, err := caller.MapAt(remora.Addr(limit-diffPage), specimen.Touched, 1)
	if errors.Is(err, linux.EEXIST) { // of some 2^22 places that the stack may have
		testneed.Lacks(t, "the stack is on the last page")
	}
	if err != nil {
		t.Fatal(err)
	}
	desk, err := caller.Map(specimen.Touched, 1)
	if err != nil {
		t.Fatal(err)
	}
	there, err := target.Map(specimen.Touched, 1)
	if err != nil {
		t.Fatal(err)
	}
	local, remote := memtest.NewSparse(nil), memtest.NewSparse(nil)
	for _, m := range []struct {
		s *memtest.Sparse
		c *specimen.Specimen
		r remora.Range
	}{{local, caller, last}, {local, caller, desk}, {remote, target, there}} {
		if err := errors.Join(m.s.Map(m.r, memtest.MapOptions{Perm: diffRW}), m.s.Poke(m.c.Contents(specimen.Touched, m.r), m.r.Start)); err != nil {
			t.Fatal(err)
		}
	}
	sys := NewSystem(&Options{UserEnd: limit})
	self := &Process{PID: caller.Pid(), Memory: local.Memory()}
	for _, p := range []*Process{self, {PID: target.Pid(), Memory: remote.Memory()}} {
		if err := sys.Set(p); err != nil {
			t.Fatal(err)
		}
	}
	d, r, bad := uint64(desk.Start), uint64(there.Start), uint64(1)<<63
	for _, row := range []struct {
		name      string
		array     uint64
		local     []Iovec
		count     uint64
		remoteLen uint64
	}{
		{"an element up to the end", d, []Iovec{{limit - 10, 10}}, 1, 20},
		{"an element over the end", d, []Iovec{{limit - 10, 11}}, 1, 20},
		{"an element over the end, of which less is wanted", d, []Iovec{{limit - 10, 11}}, 1, 5},
		{"the second over the end", d, []Iovec{{d + 2000, 10}, {limit - 10, 11}}, 2, 5},
		{"an empty one at the end", d, []Iovec{{d + 2000, 10}, {limit, 0}}, 2, 5},
		{"an empty one behind the end", d, []Iovec{{d + 2000, 10}, {limit + 1, 0}}, 2, 5},
		{"an array up to the end", limit - 32, []Iovec{{d + 2000, 10}, {d + 2020, 10}}, 2, 20},
		{"an array over the end", limit - 32, []Iovec{{d + 2000, 10}, {d + 2020, 10}}, 3, 20},
		{"an array over the end, whose first length is none", limit - 32, []Iovec{{d + 2000, bad}, {d + 2020, 10}}, 3, 20},
		{"an array up to the end, whose first length is none", limit - 32, []Iovec{{d + 2000, bad}, {d + 2020, 10}}, 2, 20},
		{"an array over the end, whose first length is no multiple", limit - 24, []Iovec{{d + 2000, bad}}, 2, 20},
	} {
		for _, write := range []bool{false, true} {
			stores := []specimen.Store{{Addr: remora.Addr(row.array), Data: encode(row.local)}, {Addr: desk.Start + 1000, Data: encode([]Iovec{{r, row.remoteLen}})}}
			for _, st := range stores {
				if err := local.Poke(st.Data, st.Addr); err != nil {
					t.Fatal(err)
				}
			}
			c := specimen.VMCall{Write: write, Pid: uint64(target.Pid()), Local: row.array, LocalCount: row.count, Remote: d + 1000, RemoteCount: 1}
			got, number, err := caller.VMCall(&c, stores...)
			if err != nil {
				t.Fatal(err)
			}
			want, e := sys.Syscall(t.Context(), self, write, Args{PID: c.Pid, Lvec: c.Local, Liovcnt: c.LocalCount, Rvec: c.Remote, Riovcnt: 1})
			if got != uint64(want) || uint64(number) != uint64(e) {
				t.Errorf("%s, write %t: the kernel gives %d, errno %d; the engine %d, errno %d", row.name, write, got, number, want, e)
			}
			sameBytes(t, caller, local, last)
			sameBytes(t, caller, local, desk)
			sameBytes(t, target, remote, there)
		}
	}
}

// sameBytes holds what a process finds in its memory against the model.
func sameBytes(t *testing.T, s *specimen.Specimen, model *memtest.Sparse, r remora.Range) {
	t.Helper()
	got, want := make([]byte, r.Size), make([]byte, r.Size)
	if err := errors.Join(s.Peek(got, r.Start), model.Peek(want, r.Start)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%v is not as in the model", r)
	}
}
