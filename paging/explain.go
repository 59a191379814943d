// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
)

// Explain adds to the cause of a fault at a what the tables say: the entry that
// decides, where it is in physical memory, and what it means. The tables are walked
// again: where they are Live and the answer has changed, it says so.
func (t *Tables) Explain(ctx context.Context, _ remora.Op, a remora.Addr, c error) error {
	if !errors.Is(c, remora.ErrFault) {
		return c
	}
	if !t.serves(a) {
		return fmt.Errorf("%w: %s", c, t.whyOutside(a))
	}
	steps := t.Walk(ctx, a)
	s := &steps[len(steps)-1]
	where := fmt.Sprintf("%s at %s:%v", s.Name, t.phys.Info().Name, s.At)
	switch {
	case s.Err == nil:
		return fmt.Errorf("%w: mapped by now: %s 0x%x: %v", c, where, s.Raw, s.Entry)
	case errors.Is(s.Err, remora.ErrNoTable):
		if errors.Is(c, remora.ErrNoTable) {
			return fmt.Errorf("%w: it would have the %s of this address", c, s.Name)
		}
		return fmt.Errorf("%w: by now: %s: %w", c, where, s.Err)
	case !errors.Is(c, s.Err):
		return fmt.Errorf("%w: by now: %s 0x%x: %v", c, where, s.Raw, s.Entry)
	}
	return fmt.Errorf("%w: %s 0x%x: %v", c, where, s.Raw, s.Entry)
}

// whyOutside says why the root does not serve a.
func (t *Tables) whyOutside(a remora.Addr) string {
	n := t.f.halfBits()
	if a>>n != 0 && ^a>>n != 0 {
		return "not canonical for " + t.f.name
	}
	return "the root serves the " + t.half.String() + " alone"
}
