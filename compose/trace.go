// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"

	"github.com/remora-go/remora"
)

// Event is one call of Transfer, after it happened.
type Event struct {
	Op    remora.Op
	Segs  []remora.Seg // with their results; the caller's again when see returns
	Moved int64        // what Transfer returned
	Err   error
}

// Trace gives s as a Space of which see is told every call, also those that were
// refused, before the caller has the results. see must not keep or change Segs or
// their Bufs, and runs in the goroutine of the caller: in several at once where
// the Space is used by several. Trace is transparent.
func Trace(s remora.Space, see func(Event)) remora.Space { return &trace{s, see} }

type trace struct {
	below remora.Space
	see   func(Event)
}

var _ remora.Space = (*trace)(nil)

func (t *trace) Info() remora.Info { return t.below.Info() }

func (t *trace) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	moved, err := t.below.Transfer(ctx, op, segs)
	t.see(Event{op, segs, moved, err})
	return moved, err
}

// Unwrap gives the Space below.
func (t *trace) Unwrap() any { return t.below }
