// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/remora-go/remora"
)

// errStale is in the segments before a call: a Space must overwrite it.
var errStale = errors.New("left over from before the call")

// probe holds one fixture at a time against what is known about it.
type probe struct {
	want Want
	make func() Fixture
	logf func(format string, args ...any)

	fx   Fixture
	info remora.Info
	lay  layout
	rnd  *rand.Rand
}

// fresh closes the fixture and makes another.
func (p *probe) fresh() error {
	if err := p.discard(); err != nil {
		return err
	}
	p.fx = p.make()
	p.rnd = newRand(1)
	lay, err := newLayout(p.fx.Areas)
	if err != nil {
		return fmt.Errorf("fixture: %w", err)
	}
	p.lay, p.info = lay, p.fx.Space.Info()
	return p.claims()
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 2)) }

// afresh makes a fixture and takes the steps on it, up to the first error.
func (p *probe) afresh(steps ...func() error) error {
	if err := p.fresh(); err != nil {
		return err
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (p *probe) discard() error {
	closer := p.fx.Close
	p.fx = Fixture{}
	if closer == nil {
		return nil
	}
	if err := closer(); err != nil {
		return fmt.Errorf("Close: %w", err)
	}
	return nil
}

// claims compares Info with Want and with the areas.
func (p *probe) claims() error {
	got, want := p.info, p.want.Info
	if want.Name == "" && got.Name != "" {
		want.Name = got.Name
	}
	got.Ops &^= remora.Write
	want.Ops &^= remora.Write
	switch {
	case got != want:
		return fmt.Errorf("Info is %+v, want %+v", got, want)
	case got.Name == "" || got.Granule == 0:
		return fmt.Errorf("Info has no Name or no Granule: %+v", got)
	case got.Ops&^remora.AllOps != 0:
		return fmt.Errorf("Info.Ops holds unknown bits: %v", got.Ops)
	}
	for _, op := range p.ops() {
		for _, r := range p.lay.runs(op) {
			if r.Last() > got.Last {
				return fmt.Errorf("fixture: %v is beyond Info.Last, %v", r, got.Last)
			}
		}
		for _, r := range p.lay.edges(op) {
			if end := r.Last() + 1; uint64(end)%uint64(got.Granule) != 0 && r.Last() != got.Last {
				return fmt.Errorf("accessibility changes at %v, inside a Granule of %d bytes", end, got.Granule)
			}
		}
	}
	return nil
}

// ops lists the kinds of access that the Space claims, each of which needs a
// fixture of its own: writing a page makes it present.
func (p *probe) ops() []remora.Op {
	var out []remora.Op
	bits := remora.Force | remora.Resident
	for op := remora.Read; op <= remora.AllOps; op++ {
		if op&^(bits|remora.Write) == 0 && op&bits&^p.info.Ops == 0 && (op&remora.Write == 0 || p.info.Writable) {
			out = append(out, op)
		}
	}
	return out
}

// dirs gives Read, and Write where the Space is writable.
func (p *probe) dirs() []remora.Op {
	if p.info.Writable {
		return []remora.Op{remora.Read, remora.Write}
	}
	return []remora.Op{remora.Read}
}

// seg makes a segment; its Buf holds what is to be written, noise for a read.
func (p *probe) seg(a remora.Addr, n int) remora.Seg {
	buf := make([]byte, n)
	var word [8]byte
	for rest := buf; len(rest) > 0; {
		binary.LittleEndian.PutUint64(word[:], p.rnd.Uint64())
		rest = rest[copy(rest, word[:]):]
	}
	return remora.Seg{Addr: a, Buf: buf}
}

// result is what a segment must come to.
type result struct {
	n      int
	causes []error // empty: complete
}

// plan works out the results of a call that nothing cuts short.
func (p *probe) plan(op remora.Op, segs []remora.Seg) ([]result, error) {
	out := make([]result, len(segs))
	stopped := false
	for i := range segs {
		if len(segs[i].Buf) == 0 {
			continue
		}
		if stopped {
			out[i].causes = []error{remora.ErrStopped}
			continue
		}
		n, causes, known := p.lay.answer(op, segs[i].Addr, len(segs[i].Buf))
		if !known {
			return nil, fmt.Errorf("suite: no area says what lies at %v", segs[i].Addr+remora.Addr(n))
		}
		out[i] = result{n, causes}
		stopped = len(causes) > 0 && op&remora.StopAtFault != 0
	}
	return out, nil
}

// call makes one Transfer and holds all that it did against the layout. It keeps
// the layout's Data up to date.
func (p *probe) call(op remora.Op, segs []remora.Seg) error {
	want, err := p.plan(op, segs)
	if err != nil {
		return err
	}
	return p.transfer(context.Background(), op, segs, func(i int) error {
		s, w := &segs[i], want[i]
		if s.N != w.n {
			return fmt.Errorf("N = %d (%v), want %d (%v)", s.N, s.Err, w.n, w.causes)
		}
		if len(w.causes) > 0 && !oneOf(s.Err, w.causes) {
			return fmt.Errorf("Err at N = %d is %v, want %v", s.N, s.Err, w.causes)
		}
		return nil
	})
}

// transfer makes one call and checks all that holds for every call: stale results
// are overwritten, N and Err agree, what is counted was moved, nothing else was,
// the sum and the error are right. judge says what is wrong with the count and
// cause of segment i.
func (p *probe) transfer(ctx context.Context, op remora.Op, segs []remora.Seg, judge func(i int) error) error {
	before := make([]remora.Seg, len(segs))
	for i := range segs {
		segs[i].N, segs[i].Err = -1, errStale
		before[i] = segs[i]
	}
	sum, err := p.fx.Space.Transfer(ctx, op, segs)
	if op&remora.Write != 0 && op&remora.Resident != 0 && errors.Is(err, errors.ErrUnsupported) {
		judge = func(i int) error { return refusedWith(&segs[i], errors.ErrUnsupported) }
	}
	for i := range segs {
		if bad := p.judge(op, &segs[i], &before[i], judge, i); bad != nil {
			return fmt.Errorf("%v, segment %d of %d, %v+%d: %w", op, i, len(segs), before[i].Addr, len(before[i].Buf), bad)
		}
	}
	if bad := total(segs, sum, err, ended(ctx)); bad != nil {
		return fmt.Errorf("%v of %d segments: %w", op, len(segs), bad)
	}
	if op&remora.Write == 0 {
		return nil
	}
	if slices.ContainsFunc(segs, func(s remora.Seg) bool { return s.Err == remora.ErrInDoubt }) {
		return p.fresh() // nobody knows what the target holds now
	}
	for i := range segs {
		if bad := p.around(segs[i].Addr, len(segs[i].Buf)); bad != nil {
			return fmt.Errorf("after %v, segment %d of %d, %v+%d: %w", op, i, len(segs), segs[i].Addr, len(segs[i].Buf), bad)
		}
	}
	return nil
}

// judge checks one segment after a call, and its bytes.
func (p *probe) judge(op remora.Op, s, before *remora.Seg, judge func(int) error, i int) error {
	switch {
	case s.Addr != before.Addr || len(s.Buf) != len(before.Buf) || cap(s.Buf) != cap(before.Buf):
		return errors.New("Addr or Buf of the segment was changed")
	case s.N < 0 || s.N > len(s.Buf):
		return fmt.Errorf("N = %d, Err = %v", s.N, s.Err)
	case (s.N == len(s.Buf)) != (s.Err == nil):
		return fmt.Errorf("N = %d of %d and Err = %v do not agree", s.N, len(s.Buf), s.Err)
	}
	if err := judge(i); err != nil {
		return err
	}
	if s.N == 0 {
		return nil
	}
	if op&remora.Write != 0 {
		p.lay.copy(op, s.Addr, s.Buf[:s.N])
		return nil
	}
	want := make([]byte, s.N)
	p.lay.copy(op, s.Addr, want)
	if at := differ(s.Buf[:s.N], want); at >= 0 {
		return fmt.Errorf("byte %d of the %d counted is 0x%02x, want 0x%02x", at, s.N, s.Buf[at], want[at])
	}
	return nil
}

// ended is the error of a context that has ended, without a look that counts.
func ended(ctx context.Context) error {
	if c, ok := ctx.(*looker); ok {
		return c.state()
	}
	return ctx.Err()
}

// total checks rule 7. end is the context's error, if it has ended by now.
func total(segs []remora.Seg, sum int64, err, end error) error {
	var want int64
	var first error
	cut := false
	for i := range segs {
		want += int64(segs[i].N)
		if first == nil {
			first = segs[i].Err
		}
		cut = cut || end != nil && (errors.Is(segs[i].Err, end) || segs[i].Err == remora.ErrInDoubt)
	}
	if cut {
		first = end
	}
	switch {
	case sum != want:
		return fmt.Errorf("returned %d, the sum of N is %d", sum, want)
	case first == nil && err != nil:
		return fmt.Errorf("returned the error %v, no segment has one", err)
	case first != nil && !errors.Is(err, first):
		return fmt.Errorf("returned the error %v, want %v", err, first)
	}
	return nil
}

func refusedWith(s *remora.Seg, err error) error {
	if len(s.Buf) == 0 {
		err = nil
	}
	if s.N != 0 || !errors.Is(s.Err, err) {
		return fmt.Errorf("N = %d, Err = %v, want 0, %v", s.N, s.Err, err)
	}
	return nil
}

func differ(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return len(a)
}

// margin is how far around a write the target is looked at after it.
const margin = 2 * 4096

// around compares the target with the layout near n bytes at a, where no wrap
// is possible, and at both ends of the space otherwise.
func (p *probe) around(a remora.Addr, n int) error {
	first, last := a-margin, a+remora.Addr(n)+margin
	if first > a {
		first = 0
	}
	if last < a {
		last = remora.MaxAddr
		if err := p.compare(remora.Range{Size: margin}); err != nil {
			return err
		}
	}
	return p.compare(remora.Range{Start: first, Size: uint64(last - first)})
}

// everywhere compares all of the target with the layout.
func (p *probe) everywhere() error {
	for i := range p.lay {
		if err := p.compare(p.lay[i].Range); err != nil {
			return err
		}
	}
	return nil
}

// compare compares what r holds of the areas that have Data with the target.
func (p *probe) compare(r remora.Range) error {
	for i := range p.lay {
		area := &p.lay[i]
		in := area.Range.Intersect(r)
		if area.Data == nil || in.Empty() {
			continue
		}
		want := area.Data[in.Start-area.Start:][:in.Size]
		got := make([]byte, len(want))
		if ok, err := p.peek(got, in.Start); err != nil {
			return err
		} else if !ok {
			continue
		}
		if at := differ(got, want); at >= 0 {
			return fmt.Errorf("the target holds 0x%02x at %v, want 0x%02x", got[at], in.Start+remora.Addr(at), want[at])
		}
	}
	return nil
}

// peek looks at the target: behind the Space's back if that is possible, else
// by reading, which says false for what cannot be read.
func (p *probe) peek(buf []byte, a remora.Addr) (bool, error) {
	if p.fx.Peek != nil {
		if err := p.fx.Peek(buf, a); err != nil {
			return false, fmt.Errorf("fixture: peek at %v: %w", a, err)
		}
		return true, nil
	}
	if n, _, _ := p.lay.answer(remora.Read, a, len(buf)); n < len(buf) {
		return false, nil
	}
	seg := []remora.Seg{{Addr: a, Buf: buf}}
	if _, err := p.fx.Space.Transfer(context.Background(), remora.Read, seg); err != nil {
		return false, fmt.Errorf("reading back at %v: %w", a, err)
	}
	return true, nil
}
