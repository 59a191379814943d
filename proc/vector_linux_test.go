// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
)

// Calls are batches and holes, and fewer where a hole holds several ranges: it is
// looked up once.
func TestCallsOfAVector(t *testing.T) {
	page := remora.Addr(pageSize)
	s := specimentest.Start(t, nil)
	r, err := s.Map(specimen.Touched, 4096)
	if err != nil {
		t.Fatal(err)
	}
	for _, hole := range []struct{ first, pages int }{{5, 1}, {25, 1}, {45, 1}, {100, 50}, {3000, 1}} {
		if err := s.Unmap(remora.Range{Start: r.Start + remora.Addr(hole.first)*page, Size: uint64(hole.pages * pageSize)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name           string
		first, step, n int // one range on each of these pages
		write          bool
		calls, faults  int
	}{
		{"one batch", 200, 1, 1024, false, 1, 0},
		{"a batch more for one range more", 200, 1, 1025, false, 2, 0},
		{"three batches", 200, 1, 2500, false, 3, 0},
		{"three single holes", 0, 1, 60, false, 1 + 3, 3},
		{"a hole at the end of the batch", 0, 1, 6, false, 1, 1},
		{"a large hole", 90, 1, 100, false, 1 + 1, 50},
		{"single and large holes in two batches", 0, 1, 1100, false, 2 + 4, 53},
		{"writes", 0, 1, 1100, true, 2 + 4, 53},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := openProcess(t, s.Pid(), &Options{Write: true})
			segs := make([]remora.Seg, row.n)
			for i := range segs {
				segs[i] = remora.Seg{Addr: r.Start + remora.Addr(row.first+i*row.step)*page, Buf: make([]byte, 8)}
			}
			op := remora.Read
			if row.write {
				op = remora.Write
			}
			x := &run{p: p, as: p.as, ctx: t.Context(), op: op}
			_, _ = x.transfer(segs)
			faults := 0
			for i := range segs {
				if segs[i].Err != nil {
					faults++
				}
			}
			if x.batch.calls != row.calls || faults != row.faults {
				t.Errorf("%d calls and %d faults, want %d and %d", x.batch.calls, faults, row.calls, row.faults)
			}
		})
	}
}
