// SPDX-License-Identifier: Apache-2.0

//go:build !race

package memtest

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/remora-go/remora"
)

// allocLimit is for what is not the Space's, in all the calls.
const allocLimit = 8

// ruleAlloc: after warm-up a local Space allocates nothing, faults included. It
// counts mallocs of the whole process with the collector off, on one P:
// testing.AllocsPerRun rounds down, and a collection would empty pools.
func ruleAlloc(p *probe) error {
	if p.want.Lacks.Local != "" {
		p.logf("not tested, Lacks.Local: %s", p.want.Lacks.Local)
		return nil
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	over, end := context.WithCancel(context.Background())
	end()
	for _, op := range p.dirs() {
		good, holes := p.lay.longest(op), p.lay.holes(op)
		single := []remora.Seg{p.seg(good.Start+1, 8)}
		mixed := []remora.Seg{p.inside(good, 64), {Addr: good.Start}, p.inside(good, 64), p.seg(remora.MaxAddr, 2)}
		var bad []remora.Seg
		for i := range min(len(holes), 4) {
			mixed = append(mixed, p.seg(holes[i].Start, 8), p.inside(good, 64))
			bad = append(bad, p.seg(holes[i].Start, 8), p.seg(holes[i].Last(), 1))
		}
		for _, row := range []struct {
			name string
			ctx  context.Context
			op   remora.Op
			segs []remora.Seg
		}{
			{"one segment", context.Background(), op, single},
			{"a mixed vector", context.Background(), op, mixed},
			{"faults only", context.Background(), op, bad},
			{"a fault and StopAtFault", context.Background(), op | remora.StopAtFault&p.info.Ops, mixed},
			{"Force", context.Background(), op | remora.Force&p.info.Ops, mixed},
			{"Resident", context.Background(), op | remora.Resident&p.info.Ops, mixed},
			{"a context that can end", ctx, op, mixed},
			{"a context that has ended", over, op, mixed},
			{"a refused op", context.Background(), op | unknownBits[0], mixed},
		} {
			if n := p.mallocs(row.ctx, row.op, row.segs); n > allocLimit {
				return fmt.Errorf("%v, %s: %d allocations in %d calls", row.op, row.name, n, p.work.allocs)
			}
		}
	}
	if p.info.Writable {
		return nil
	}
	refused := []remora.Seg{p.seg(p.lay[0].Start, 8)}
	if n := p.mallocs(context.Background(), remora.Write, refused); n > allocLimit {
		return fmt.Errorf("a refused write: %d allocations in %d calls", n, p.work.allocs)
	}
	return nil
}

// mallocs gives what the calls allocate: the least of some tries. What a Space
// allocates it allocates each time; the runtime makes a thread now and then, where
// the machine is busy and a system call takes long.
func (p *probe) mallocs(ctx context.Context, op remora.Op, segs []remora.Seg) uint64 {
	const tries = 4
	least := p.mallocsOnce(ctx, op, segs)
	for try := 1; try < tries && least > allocLimit; try++ {
		least = min(least, p.mallocsOnce(ctx, op, segs))
	}
	return least
}

func (p *probe) mallocsOnce(ctx context.Context, op remora.Op, segs []remora.Seg) uint64 {
	var before, after runtime.MemStats
	for range 100 {
		p.fx.Space.Transfer(ctx, op, segs)
	}
	runtime.ReadMemStats(&before)
	for range p.work.allocs {
		p.fx.Space.Transfer(ctx, op, segs)
	}
	runtime.ReadMemStats(&after)
	return after.Mallocs - before.Mallocs
}
