// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/remora-go/remora"
)

// Usage is how much memory a process has, in bytes.
type Usage struct {
	Virtual  uint64 // mapped
	Resident uint64 // of that in memory: anonymous, of files, and shared
	Err      error  // why it could not be read; nil: it was
}

// Kinds of pages that a process has in memory (include/linux/mm_types_task.h).
const (
	rssFile   = 0
	rssAnon   = 1
	rssShared = 3
)

// usageFields are the members of struct mm_struct that count its pages. Since 6.2 each of
// these counters is one of the sort that has a part for each processor.
type usageFields struct {
	total, plain         field // the second before 6.2
	counters, sum, parts field

	mm frame
}

func (k *Kernel) learnUsage(ctx context.Context) (*usageFields, error) {
	types, err := k.Types(ctx)
	if err != nil {
		return nil, err
	}
	f := &usageFields{}
	err = types.fields(ctx,
		wanted{&f.total, "mm_struct.total_vm", false},
		wanted{&f.plain, "mm_struct.rss_stat.count", true},
		wanted{&f.counters, "mm_struct.rss_stat", false},
		wanted{&f.sum, "percpu_counter.count", true},
		wanted{&f.parts, "percpu_counter.counters", true},
	)
	if err != nil {
		return nil, err
	}
	return f, f.resolve()
}

// resolve works out the frame.
func (f *usageFields) resolve() (err error) {
	f.mm, err = frameOf("mm_struct", f.total, f.counters)
	return err
}

// Usage tells how much memory tasks have: one answer for each, in the same order. It is
// zero for those that have no memory of their own. The error is that of the whole.
func (k *Kernel) Usage(ctx context.Context, tasks []*Task) ([]Usage, error) {
	f, err := k.usage.do(ctx, k.learnUsage)
	if err != nil {
		return nil, fmt.Errorf("memory of processes: %w", err)
	}
	offsets, err := k.perCPU(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		offsets = nil // what counters have for each processor is little, and left out
	}
	u := &usageReader{f, ctx, k.mem, offsets, k.pageSize(ctx)}
	all := make([]Usage, len(tasks))
	for from := 0; from < len(tasks); from += atOnce {
		to := min(from+atOnce, len(tasks))
		if err := u.read(tasks[from:to], all[from:to]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

type usageReader struct {
	*usageFields
	ctx     context.Context
	mem     *remora.Memory
	offsets []remora.Addr
	page    uint64
}

func (u *usageReader) read(tasks []*Task, all []Usage) error {
	var b batch
	parts := make([]part, len(tasks))
	for i, t := range tasks {
		if t.MM != 0 {
			parts[i] = b.add(t.MM, &u.mm)
		}
	}
	if err := b.run(u.ctx, u.mem); err != nil {
		return err
	}
	var more batch
	var rest []share
	for i, p := range parts {
		if p.n == 0 {
			continue
		}
		if all[i].Err = b.fault(u.ctx, u.mem, p); all[i].Err != nil {
			continue
		}
		all[i].Virtual = u.mm.uint(p.read, u.total) * u.page
		for _, kind := range []uint64{rssFile, rssAnon, rssShared} {
			if u.plain.has() {
				all[i].Resident += u.pages(int64(u.mm.uint(p.read, u.plain.word(kind))))
				continue
			}
			rest = append(rest, u.counter(&more, p.read, kind, &all[i]))
		}
	}
	if err := more.run(u.ctx, u.mem); err != nil {
		return err
	}
	for _, s := range rest {
		n := s.sum
		for _, p := range s.parts {
			if err := more.fault(u.ctx, u.mem, p); err != nil {
				s.of.Err = err
				break
			}
			n += int64(int32(binary.LittleEndian.Uint32(p.read)))
		}
		s.of.Resident += u.pages(n)
	}
	return nil
}

// share is a counter whose parts are still to be added to it.
type share struct {
	of    *Usage
	sum   int64
	parts []part
}

// counter asks for the parts of a struct percpu_counter.
func (u *usageReader) counter(b *batch, mm []byte, kind uint64, of *Usage) share {
	at := u.counters.off + kind*uint64(u.counters.elem)
	s := share{of: of, sum: int64(u.mm.uint(mm, u.sum.from(at)))}
	counters := u.mm.ptr(mm, u.parts.from(at))
	if counters == 0 {
		return s
	}
	part := perCPUPart()
	for _, off := range u.offsets {
		s.parts = append(s.parts, b.add(counters+off, &part))
	}
	return s
}

// perCPUPart is what a struct percpu_counter has for a processor: 32 bits.
func perCPUPart() frame {
	return frame{name: "percpu_counter", runs: []remora.Range{{Size: 4}}, size: 4}
}

// pages gives the bytes of a number of pages, which may be a little below zero for a
// moment.
func (u *usageReader) pages(n int64) uint64 { return uint64(max(n, 0)) * u.page }
