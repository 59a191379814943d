// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
)

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
	if bad := p.around(segs); bad != nil {
		return fmt.Errorf("after %v of %d segments, the first %v+%d: %w", op, len(segs), segs[0].Addr, len(segs[0].Buf), bad)
	}
	return nil
}

// judge checks one segment after a call, and its bytes.
func (p *probe) judge(op remora.Op, s, before *remora.Seg, judge func(int) error, i int) error {
	switch {
	case s.Addr != before.Addr || !same(s.Buf, before.Buf):
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
		p.lay.store(s.Addr, s.Buf[:s.N])
		return nil
	}
	if at, want := p.lay.differ(s.Addr, s.Buf[:s.N]); at >= 0 {
		return fmt.Errorf("byte %d of the %d counted is 0x%02x, want 0x%02x", at, s.N, s.Buf[at], want)
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

// same says whether a and b are the same slice, not only the same bytes.
func same(a, b []byte) bool {
	return len(a) == len(b) && cap(a) == cap(b) && (cap(a) == 0 || &a[:1][0] == &b[:1][0])
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
