// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/proc"
)

// row is one comparison: something done n times here, and its twin in C.
type row struct {
	name  string
	limit string                                // what the ratio is to be
	here  func(n int) error                     // nil: the twin alone, for calibration
	there func(t *twin, n int) (command string) // the command that does it n times
	bytes int                                   // moved each time, for rows about bandwidth
	wide  bool                                  // it needs more than one thread
	most  int                                   // times in a round, where here takes much longer; 0: no limit

	prepare func(t *twin) error // before the row; may be nil
	peer    func(n int) error   // in place of there: what is timed from here, as a whole process is
}

// sizes of memory
const (
	bulk   = 16 << 20
	large  = 256 << 20
	vector = 1024 // ranges
	word   = 8    // bytes of a small read
)

// bench is what the rows share.
type bench struct {
	specimen *specimen.Specimen
	pid      int
	private  remora.Range // large bytes, every page touched
	shared   remora.Range // bulk bytes of a memfd
	holed    remora.Range // pages, every tenth of them unmapped
	page     uint64
	handles  []*proc.Process
	random   *rand.Rand
	cancel   context.CancelFunc // of the context that can end
}

func (b *bench) open(o proc.Options) (*proc.Process, error) {
	p, err := proc.Open(b.pid, &o)
	if err == nil {
		b.handles = append(b.handles, p)
	}
	return p, err
}

func (b *bench) close() error {
	if b.cancel != nil {
		b.cancel()
	}
	for _, p := range b.handles {
		p.Close()
	}
	return b.specimen.Close()
}

// rows gives all rows.
func (b *bench) rows() ([]row, error) {
	rows := calibration()
	for _, more := range []func() ([]row, error){b.bulkRows, b.smallRows, b.vectorRows, b.sharedRows, b.compatRows} {
		r, err := more()
		if err != nil {
			return nil, err
		}
		rows = append(rows, r...)
	}
	return rows, nil
}

func calibration() []row {
	return []row{
		{name: "getppid", there: func(_ *twin, n int) string { return fmt.Sprint("getppid ", n) }},
		{name: "memcpy of 16 MiB", bytes: bulk, there: func(_ *twin, n int) string { return fmt.Sprintf("copy %d %d", bulk, n) }},
		{name: "start of /bin/true", there: func(_ *twin, n int) string { return fmt.Sprint("start ", n) }},
	}
}

// one is a row that reads size bytes at a through p.
func (b *bench) one(name, limit string, p *proc.Process, ctx context.Context, op remora.Op, a remora.Addr, size int) row {
	segs := []remora.Seg{{Addr: a, Buf: make([]byte, size)}}
	for i := range segs[0].Buf {
		segs[0].Buf[i] = 1 // it is a buffer that has been used before
	}
	m := p.Memory()
	r := row{
		name: name, limit: limit,
		here: func(n int) error {
			for range n {
				if _, err := m.Transfer(ctx, op, segs); err != nil {
					return err
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string { return fmt.Sprintf("one %d %x %d %d", b.pid, uint64(a), size, n) },
	}
	if size >= bulk {
		r.bytes = size
	}
	return r
}

// wide is a row that needs more than one thread.
func wide(r row) row {
	r.wide = true
	return r
}

func (b *bench) bulkRows() ([]row, error) {
	p, err := b.open(proc.Options{})
	if err != nil {
		return nil, err
	}
	two, err := b.open(proc.Options{Parallel: 2})
	if err != nil {
		return nil, err
	}
	ctx, a := context.Background(), b.private.Start
	return []row{
		b.one("16 MiB", "at most 1.03", p, ctx, remora.Read, a, bulk),
		b.one("256 MiB", "at most 1.03", p, ctx, remora.Read, a, large),
		wide(b.one("16 MiB, Parallel 2", "at most 0.74", two, ctx, remora.Read, a, bulk)),
		wide(b.one("256 MiB, Parallel 2", "at most 0.74", two, ctx, remora.Read, a, large)),
	}, nil
}

func (b *bench) smallRows() ([]row, error) {
	p, err := b.open(proc.Options{})
	if err != nil {
		return nil, err
	}
	unchecked, err := b.open(proc.Options{Unchecked: true})
	if err != nil {
		return nil, err
	}
	ctx, a := context.Background(), b.private.Start+64
	ends, cancel := context.WithCancel(ctx) // that it could end is what matters
	b.cancel = cancel
	return []row{
		b.one("8 bytes, Unchecked", "at most 1.25", unchecked, ctx, remora.Read, a, word),
		b.one("8 bytes", "at most 1.65", p, ctx, remora.Read, a, word),
		b.one("8 bytes, Force and Unchecked", "at most 1.00", unchecked, ctx, remora.Force, a, word),
		wide(b.one("8 bytes, a context that can end", "", p, ends, remora.Read, a, word)),
		wide(b.one("8 bytes, such a context, Unchecked", "", unchecked, ends, remora.Read, a, word)),
		b.one("4 KiB", "", p, ctx, remora.Read, b.private.Start, 4<<10),
	}, nil
}

// scatter gives vector ranges of a word each, perPage of them on each of as many
// random pages as that takes.
func (b *bench) scatter(perPage int, sorted bool) []remora.Seg {
	pages := int(b.private.Size / b.page)
	segs := make([]remora.Seg, 0, vector)
	for _, page := range b.random.Perm(pages)[:vector/perPage] {
		for _, slot := range b.random.Perm(int(b.page) / word)[:perPage] {
			a := b.private.Start + remora.Addr(uint64(page)*b.page+uint64(slot)*word)
			segs = append(segs, remora.Seg{Addr: a})
		}
	}
	b.random.Shuffle(len(segs), func(i, j int) { segs[i], segs[j] = segs[j], segs[i] })
	if sorted {
		slices.SortFunc(segs, func(x, y remora.Seg) int { return cmp.Compare(x.Addr, y.Addr) })
	}
	return packed(segs)
}

// packed gives each of segs a word of memory, one behind the other as in the twin.
func packed(segs []remora.Seg) []remora.Seg {
	words := make([]byte, word*len(segs))
	for i := range segs {
		segs[i].Buf = words[i*word:][:word]
	}
	return segs
}

// holes gives a range of a word on each page of an area of which every tenth page
// is a hole, in random order.
func (b *bench) holes() []remora.Seg {
	segs := make([]remora.Seg, 0, vector)
	for _, page := range b.random.Perm(vector) {
		segs = append(segs, remora.Seg{Addr: b.holed.Start + remora.Addr(uint64(page)*b.page)})
	}
	return packed(segs)
}

func (b *bench) vectorRows() ([]row, error) {
	p, err := b.open(proc.Options{})
	if err != nil {
		return nil, err
	}
	rows := []row{b.many("1,024 ranges on pages of their own", "at most 1.05", p, b.scatter(1, false), false)}
	for _, it := range []struct {
		perPage          int
		unsorted, sorted string
	}{{4, "0.60", "0.45"}, {16, "0.30", "0.13"}, {64, "0.22", "0.05"}} {
		name := fmt.Sprintf("1,024 ranges, %d a page", it.perPage)
		rows = append(rows,
			b.many(name, "at most "+it.unsorted, p, b.scatter(it.perPage, false), false),
			b.many(name+", sorted", "at most "+it.sorted, p, b.scatter(it.perPage, true), false))
	}
	return append(rows, b.many("1,024 ranges, 10 % of them holes", "", p, b.holes(), true)), nil
}

// many is a row that reads a vector through p.
func (b *bench) many(name, limit string, p *proc.Process, segs []remora.Seg, faults bool) row {
	m, ctx := p.Memory(), context.Background()
	return row{
		name: name, limit: limit, prepare: func(t *twin) error { return t.load(segs) },
		here: func(n int) error {
			for range n {
				if _, err := m.ReadV(ctx, segs); err != nil && !faults {
					return err
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string { return fmt.Sprintf("vector %d %d", b.pid, n) },
	}
}

func (b *bench) sharedRows() ([]row, error) {
	p, err := b.open(proc.Options{MapShared: true})
	if err != nil {
		return nil, err
	}
	unchecked, err := b.open(proc.Options{MapUnchecked: true, Unchecked: true})
	if err != nil {
		return nil, err
	}
	ctx, a := context.Background(), b.shared.Start
	return []row{
		b.one("16 MiB, MapShared", "at most 0.50", p, ctx, remora.Read, a, bulk),
		b.one("8 bytes, MapShared", "at most 0.60", p, ctx, remora.Read, a+64, word),
		b.one("8 bytes, MapUnchecked", "", unchecked, ctx, remora.Read, a+64, word),
	}, nil
}
