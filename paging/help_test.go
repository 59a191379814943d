// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// ram is a physical memory of 4 KiB pages in which entries are set one by one. What
// nobody made is ErrHole.
type ram struct {
	pages   map[uint64]*[4096]byte
	faults  []fault
	granule uint32
	live    bool
	reads   atomic.Int64 // calls of Transfer
}

// fault is a run of bytes that cannot be accessed.
type fault struct {
	first, end uint64
	err        error
}

func newRAM() *ram { return &ram{pages: map[uint64]*[4096]byte{}, granule: 8} }

func (r *ram) Info() remora.Info {
	return remora.Info{Name: "physical", Ops: remora.AllOps, Granule: r.granule, Last: remora.MaxAddr, Writable: true, Live: r.live}
}

func (r *ram) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	r.reads.Add(1)
	return xfer.Each(ctx, op, segs, r)
}

func (r *ram) Move(_ context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	at := uint64(a)
	page := r.pages[at>>12]
	n := min(len(buf), int(4096-at%4096))
	for _, f := range r.faults {
		if at >= f.first && at < f.end {
			return 0, f.err
		}
		if at < f.first && uint64(n) > f.first-at {
			n = int(f.first - at)
		}
	}
	if page == nil {
		return 0, remora.ErrHole
	}
	if op&remora.Write != 0 {
		return copy(page[at%4096:], buf[:n]), nil
	}
	return copy(buf, page[at%4096:][:n]), nil
}

// make makes the page at a.
func (r *ram) make(a uint64) *[4096]byte {
	if r.pages[a>>12] == nil {
		r.pages[a>>12] = new([4096]byte)
	}
	return r.pages[a>>12]
}

// set sets entry i of the table at a, and makes the pages of the table.
func (r *ram) set(a uint64, i int, raw uint64) {
	a += uint64(i) * 8
	binary.LittleEndian.PutUint64(r.make(a)[a%4096:], raw)
}

// word gives the entry at a, byte by byte, and whether it is there.
func (r *ram) word(a uint64) (uint64, bool) {
	v := uint64(0)
	for i := range uint64(8) {
		for _, f := range r.faults {
			if a+i >= f.first && a+i < f.end {
				return 0, false
			}
		}
		p := r.pages[(a+i)>>12]
		if p == nil {
			return 0, false
		}
		v |= uint64(p[(a+i)%4096]) << (8 * i)
	}
	return v, true
}

func must(t testing.TB, f *Format, err error) *Format {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func x86(t testing.TB, levels int) *Format {
	t.Helper()
	f, err := X86(X86Options{Levels: levels})
	return must(t, f, err)
}
