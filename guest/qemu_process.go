// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/remora-go/remora"
)

// errNotQEMU says that a process does not have the memory that QEMU said it has.
var errNotQEMU = errors.New("the process does not have the memory that QEMU says it has: it is another one, or in another pid namespace")

// reach opens QEMU's process, or says why it is done without, and places the layout.
func (q *QEMU) reach(ctx context.Context, l *layout) error {
	q.refused = q.openProcess(ctx, l)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if q.refused == nil {
		return nil
	}
	if q.opts.Write {
		if denied, ok := errors.AsType[*remora.AccessError](q.refused); ok {
			return denied
		}
		return fmt.Errorf("%s: to write it the memory of QEMU's process is needed: %w", q.name(), q.refused)
	}
	q.slow = newSlow(q)
	l.hosts = nil
	return q.place(ctx, l)
}

// openProcess finds QEMU's process among the numbers that it may have.
func (q *QEMU) openProcess(ctx context.Context, l *layout) error {
	if q.opts.Process == nil {
		return errors.New("not asked for")
	}
	var why error
	for _, pid := range q.candidates(ctx) {
		process, err := q.opts.Process(pid)
		if err != nil {
			why = cmp.Or(why, err)
			continue
		}
		q.process, q.pid = process, pid
		if err = q.place(ctx, l); err == nil {
			return nil
		}
		q.process, q.pid = nil, 0
		process.Close()
		if !errors.Is(why, fs.ErrPermission) {
			why = fmt.Errorf("pid %d: %w", pid, err)
		}
	}
	if why == nil {
		why = errors.New("the number of QEMU's process is not known here: it runs in another pid namespace")
	}
	return why
}

// candidates gives the numbers that QEMU's process may have here: the one that was given;
// that of who made the socket; and of the process that has the thread of a processor,
// since a manager may have made the socket and handed it to QEMU.
func (q *QEMU) candidates(ctx context.Context) []int {
	if q.opts.PID != 0 {
		return []int{q.opts.PID}
	}
	var all []int
	if pid := q.client.Peer(); pid > 0 {
		all = append(all, pid)
	}
	var cpus []struct {
		Thread int `json:"thread-id"`
	}
	if q.execute(ctx, "query-cpus-fast", nil, &cpus) == nil && len(cpus) > 0 {
		if pid := processOf(cpus[0].Thread); pid > 0 && !slices.Contains(all, pid) {
			all = append(all, pid)
		}
	}
	return all
}

// place makes the pieces of a layout: in the process, as far as that has what QEMU says,
// or behind QMP.
func (q *QEMU) place(ctx context.Context, l *layout) error {
	if q.process == nil {
		l.settle(q.slow, l.piecesOf())
		return nil
	}
	pieces := l.piecesOf()
	if m, ok := remora.As[remora.Mapper](q.process); ok {
		var err error
		if pieces, err = q.fit(ctx, pieces, m); err != nil {
			return err
		}
	}
	l.settle(q.process.Memory(), pieces)
	return nil
}

// maxPieces bounds into how many pieces the mappings of a process cut guest memory.
const maxPieces = 1 << 16

// fit holds pieces against what is mapped in QEMU's process, and cuts them at the borders
// of what is mapped here too.
func (q *QEMU) fit(ctx context.Context, pieces []piece, m remora.Mapper) ([]piece, error) {
	var regions []remora.Region
	for r, err := range m.Regions(ctx) {
		if err != nil {
			return nil, err
		}
		regions = append(regions, r)
	}
	var all []piece
	for _, p := range pieces {
		at, _ := slices.BinarySearchFunc(regions, p.below, func(r remora.Region, a uint64) int { return cmp.Compare(uint64(r.Last()), a) })
		for ; ; at++ {
			if at == len(regions) || uint64(regions[at].Start) > p.below || len(all) == maxPieces {
				return nil, errNotQEMU
			}
			r := &regions[at]
			part := p
			part.last = min(p.last, p.first+(uint64(r.Last())-p.below))
			if r.Shared && r.Inode != 0 && !q.opts.NoMap {
				part.mapped = q.shared.of(q, r)
			}
			if n := len(all); n > 0 && all[n-1].joins(&part) {
				all[n-1].last = part.last
			} else {
				all = append(all, part)
			}
			if part.last == p.last {
				break
			}
			p.below += part.last + 1 - p.first
			p.first = part.last + 1
		}
	}
	return all, nil
}

// joins says whether b goes on where p ends, in all that matters.
func (p *piece) joins(b *piece) bool {
	size := b.first - p.first
	return p.last+1 == b.first && p.below+size == b.below && p.mapped == nil && b.mapped == nil &&
		p.perm == b.perm && p.block == b.block
}
