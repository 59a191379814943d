// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"context"
	"fmt"
	"strings"

	"github.com/remora-go/remora"
)

const (
	maxNested = 32      // structures without a name within one another
	maxLooks  = 1 << 18 // members looked at for one name
)

// Find gives the member of d at a path like "mm_mt.ma_root", which may go through members
// that have no name themselves. Its Bit is counted from the start of d. ok is false where
// there is none.
func (t *Types) Find(ctx context.Context, d Type, path string) (m Member, ok bool, err error) {
	bit := uint64(0)
	for {
		name, rest, more := strings.Cut(path, ".")
		s := search{t: t, ctx: ctx, name: name}
		m, ok, err = s.in(d, bit, 0)
		if err != nil || !ok || !more {
			return m, ok, err
		}
		bit = m.Bit
		if d, err = t.Plain(ctx, m.Type); err != nil {
			return m, false, err
		}
		path = rest
	}
}

// search looks for a member.
type search struct {
	t     *Types
	ctx   context.Context
	name  string
	steps int
}

// in looks in d, whose first bit is given.
func (s *search) in(d Type, bit uint64, depth int) (Member, bool, error) {
	all, err := s.t.Members(s.ctx, d)
	if err != nil {
		return Member{}, false, err
	}
	if s.steps += len(all); s.steps > maxLooks || depth > maxNested {
		return Member{}, false, fmt.Errorf("%s: %s has too many members within one another: %w", s.t.name, d.Name, remora.ErrCorrupt)
	}
	for _, m := range all {
		if m.Name == s.name && m.Name != "" {
			m.Bit += bit
			return m, true, nil
		}
	}
	for _, in := range all {
		if in.Name != "" {
			continue
		}
		nested, err := s.t.Plain(s.ctx, in.Type)
		if err != nil {
			return Member{}, false, err
		}
		if m, ok, err := s.in(nested, bit+in.Bit, depth+1); err != nil || ok {
			return m, ok, err
		}
	}
	return Member{}, false, nil
}
