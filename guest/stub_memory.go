// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/rsp"
	"github.com/remora-go/remora/internal/xfer"
)

// stubGranule is the least that is mapped or not, in bytes.
const stubGranule = 4096

// stubMover moves memory by requests to a stub, at physical addresses or at those that the
// stub has of itself. Nothing bounds it.
type stubMover struct {
	s        *Stub
	physical bool
	fault    remora.Cause // why the stub refuses an address
}

var (
	_ xfer.Mover = (*stubMover)(nil)
	_ xfer.Whole = (*stubMover)(nil)
)

// Move moves a prefix of buf.
func (m *stubMover) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	exact := xfer.Retreat{Whole: m, Granule: stubGranule}
	if op&remora.Write != 0 {
		return exact.Move(ctx, op, a, buf)
	}
	n, err := m.read(ctx, a, buf)
	if err == nil || !errors.Is(err, remora.ErrFault) {
		return n, err
	}
	more, err := exact.Move(ctx, op, a+remora.Addr(n), buf[n:min(len(buf), n+m.s.c.Chunk())])
	return n + more, err
}

// Whole moves all of buf or fails.
func (m *stubMover) Whole(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) error {
	if op&remora.Write != 0 {
		return m.write(ctx, a, buf)
	}
	_, err := m.read(ctx, a, buf)
	return err
}

func (m *stubMover) read(ctx context.Context, a remora.Addr, buf []byte) (n int, err error) {
	if err := m.s.enter(ctx); err != nil {
		return 0, err
	}
	defer m.s.leave()
	if err := m.s.setMode(ctx, m.physical); err != nil {
		return 0, err
	}
	n, err = m.s.c.Read(ctx, buf, uint64(a))
	return n, m.cause(err)
}

func (m *stubMover) write(ctx context.Context, a remora.Addr, buf []byte) error {
	if err := m.s.enter(ctx); err != nil {
		return err
	}
	defer m.s.leave()
	if err := m.s.setMode(ctx, m.physical); err != nil {
		return err
	}
	if !m.physical { // it may be the same memory
		defer m.s.whole.Drop()
	}
	_, err := m.s.c.Write(ctx, buf, uint64(a))
	return m.cause(err)
}

// cause gives what a Space says where the client says err.
func (m *stubMover) cause(err error) error {
	switch _, no := errors.AsType[*rsp.Error](err); {
	case no:
		return m.fault
	case errors.Is(err, rsp.ErrInDoubt):
		return remora.ErrInDoubt
	}
	return stubError(err)
}

// stubRaw is physical memory without bounds: what reads it must know that there is memory.
type stubRaw struct {
	s    *Stub
	move stubMover
}

var _ remora.Space = (*stubRaw)(nil)

func newStubRaw(s *Stub) *stubRaw {
	return &stubRaw{s, stubMover{s, true, remora.ErrHole}}
}

func (r *stubRaw) Info() remora.Info {
	i := r.s.info("@any")
	i.Ops |= remora.Resident
	return i
}

func (r *stubRaw) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	i := r.Info()
	if err := xfer.Refusal(op, i.Ops, i.Writable, !r.s.closed.Load()); err != nil {
		return xfer.Refuse(segs, err)
	}
	return xfer.Each(ctx, op, segs, &r.move)
}

// info are the facts of a Space of the stub's. It is not live: what is behind the stub
// stands still.
func (s *Stub) info(name string) remora.Info {
	return remora.Info{
		Name: s.name + name, Ops: remora.StopAtFault | remora.Force, PtrSize: s.ptrSize(), BigEndian: s.features.BigEndian(),
		Granule: stubGranule, Last: remora.MaxAddr, Writable: s.write,
	}
}

// StubRAM says where a machine has memory, and how that is known.
type StubRAM struct {
	Ranges []remora.Range
	How    string
}

// StubPhysical is the physical memory of a machine of QEMU's, as far as it is known to be
// memory: all else is a hole, as the stub answers for it with zeros, or with what a
// device makes of being read.
type StubPhysical struct {
	gate   xfer.Gate
	s      *Stub
	mem    *remora.Memory
	info   remora.Info
	locate func(ctx context.Context, whole remora.Space) (*StubRAM, error)
	turn   chan struct{} // a place for the one who locates
	ram    atomic.Pointer[StubRAM]
}

var (
	_ remora.Target    = (*StubPhysical)(nil)
	_ remora.Space     = (*StubPhysical)(nil)
	_ remora.Mapper    = (*StubPhysical)(nil)
	_ remora.Explainer = (*StubPhysical)(nil)
	_ remora.Describer = (*StubPhysical)(nil)
)

// Physical gives the physical memory of a machine. Locate is asked, once and when memory
// is first needed, where that is; whole is physical memory without bounds, to be read
// only where memory is known to be. Closing the memory closes the Stub.
func (s *Stub) Physical(locate func(ctx context.Context, whole remora.Space) (*StubRAM, error)) *StubPhysical {
	p := &StubPhysical{s: s, info: s.info("@phys"), locate: locate, turn: make(chan struct{}, 1)}
	p.info.Ops |= remora.Resident
	p.mem = remora.New(p)
	return p
}

// PhysicalAt is Physical where it is known where memory is.
func (s *Stub) PhysicalAt(ram *StubRAM) *StubPhysical {
	p := s.Physical(nil)
	p.set(ram)
	return p
}

// set takes the ranges, in order and with those that touch made one.
func (p *StubPhysical) set(ram *StubRAM) {
	p.ram.Store(&StubRAM{mergeRanges(ram.Ranges), ram.How})
}

// mergeRanges gives the same addresses in as few ranges as can be, in order.
func mergeRanges(all []remora.Range) (merged []remora.Range) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b remora.Range) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	for _, r := range all {
		if r.Empty() {
			continue
		}
		if n := len(merged); n > 0 && (merged[n-1].Contains(r.Start) || merged[n-1].Last()+1 == r.Start) {
			last := &merged[n-1]
			last.Size = uint64(max(last.Last(), r.Last())-last.Start) + 1
			continue
		}
		merged = append(merged, r)
	}
	return merged
}

// located gives where memory is.
func (p *StubPhysical) located(ctx context.Context) (*StubRAM, error) {
	if r := p.ram.Load(); r != nil {
		return r, nil
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if r := p.ram.Load(); r != nil {
		return r, nil
	}
	ram, err := p.locate(ctx, p.s.whole)
	if err != nil {
		return nil, err
	}
	p.set(ram)
	return p.ram.Load(), nil
}

// Memory is the physical memory. The StubPhysical itself is its Space.
func (p *StubPhysical) Memory() *remora.Memory { return p.mem }

// Info gives the facts of the Space.
func (p *StubPhysical) Info() remora.Info { return p.info }

// Transfer moves physical memory, and keeps the contract of remora.Space. Force and
// Resident change nothing.
func (p *StubPhysical) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := p.gate.Admit(op, p.info.Ops, p.info.Writable); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer p.gate.Leave()
	if !slices.ContainsFunc(segs, func(s remora.Seg) bool { return len(s.Buf) > 0 }) {
		return xfer.Refuse(segs, nil)
	}
	ram, err := p.located(ctx)
	if err != nil {
		return xfer.Refuse(segs, err)
	}
	m := &ramMover{ram.Ranges, p.s}
	return xfer.Each(ctx, op, segs, p.s.raw.move.ahead(ctx, op, segs, m, m.ahead))
}

// ramMover moves what is in ranges, through a cache, but for the first little that is read
// of a page.
type ramMover struct {
	ranges []remora.Range
	s      *Stub
}

// ahead says whether a small range is to be read by itself.
func (m *ramMover) ahead(a remora.Addr, n int) bool {
	return within(m.ranges, a, n) && m.s.seen.first(a)
}

// Move moves a prefix of buf.
func (m *ramMover) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	i, ok := rangeAt(m.ranges, a)
	if !ok {
		return 0, remora.ErrHole
	}
	r := m.ranges[i]
	buf = buf[:min(uint64(len(buf)-1), uint64(r.Last()-a))+1]
	space := remora.Space(m.s.whole)
	if page := (remora.Range{Start: a &^ (stubGranule - 1), Size: stubGranule}); op&remora.Write == 0 &&
		(page.Intersect(r) != page || !r.Contains((a+remora.Addr(len(buf)-1))|(stubGranule-1)) || // the cache would read beyond the memory
			len(buf) <= stubSmall && m.s.seen.first(a)) {
		space = m.s.raw
	}
	seg := [1]remora.Seg{{Addr: a, Buf: buf}}
	_, _ = space.Transfer(ctx, op&remora.Write, seg[:]) // it is in the segment
	return seg[0].N, seg[0].Err
}

// Regions gives where memory is.
func (p *StubPhysical) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		if !p.gate.Enter() {
			yield(remora.Region{}, fs.ErrClosed)
			return
		}
		defer p.gate.Leave()
		ram, err := p.located(ctx)
		if err != nil {
			yield(remora.Region{}, err)
			return
		}
		for _, r := range ram.Ranges {
			if !yield(remora.Region{Range: r, Perm: remora.PermRead | remora.PermWrite | remora.PermExec, Shared: true, Name: "RAM"}, nil) {
				return
			}
		}
	}
}

// Explain says how it is known that there is no memory.
func (p *StubPhysical) Explain(_ context.Context, _ remora.Op, a remora.Addr, cause error) error {
	ram := p.ram.Load()
	if ram == nil || !errors.Is(cause, remora.ErrHole) {
		return cause
	}
	return fmt.Errorf("%w: there is no memory at %v by %s", cause, a, ram.How)
}

// Close waits for running calls, and closes the stub.
func (p *StubPhysical) Close() error {
	p.gate.Close()
	return p.s.Close()
}

// Describe says what the stub is, and what becomes of the machine.
func (p *StubPhysical) Describe(ctx context.Context) ([]remora.Fact, error) {
	facts, err := p.s.Describe(ctx)
	if err != nil {
		return facts, err
	}
	ram, err := p.located(ctx)
	if errors.Is(err, remora.ErrHole) {
		return append(facts, remora.Fact{Key: "memory", Value: "not known: " + err.Error()}), nil
	}
	if err != nil {
		return facts, err
	}
	size := uint64(0)
	for _, r := range ram.Ranges {
		size += r.Size
	}
	return append(facts, remora.Fact{Key: "memory", Value: fmt.Sprintf("%d MiB in %d ranges, by %s", size>>20, len(ram.Ranges), ram.How)}), nil
}
