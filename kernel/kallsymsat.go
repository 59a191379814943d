// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// A few addresses are looked for without all names being decoded, and each among a few
// places at most.
const (
	maxLooksAt = 4
	maxNearest = 8
)

var errNotNear = errors.New("only names that assemblers make up are near")

// at finds the symbol at an address, or the nearest one before it.
func (s *kallsyms) at(ctx context.Context, a remora.Addr) (found sym.Symbol, ok bool, err error) {
	if s.marks != nil && !s.all.known() && s.looks.Add(1) <= maxLooksAt {
		if found, ok, err = s.nearest(ctx, a); err == nil || ctx.Err() != nil {
			return found, ok, err
		}
	}
	t, problem := s.table(ctx)
	if t == nil {
		return sym.Symbol{}, false, problem
	}
	if found, ok = t.At(a); problem != nil && (!ok || found.Addr != a) {
		return found, false, problem // a nearer one may be lost
	}
	return found, ok, nil
}

// nearest is at by going through the addresses. It decodes the name that it finds.
func (s *kallsyms) nearest(ctx context.Context, a remora.Addr) (sym.Symbol, bool, error) {
	addrs := &addressReader{s: s}
	if addrs.read(ctx); addrs.why != nil {
		return sym.Symbol{}, false, addrs.why
	}
	for range maxNearest {
		best, any := remora.Addr(0), false
		var of []uint64 // numbers of the symbols at best
		for i := range s.count {
			switch v := s.address(i, addrs.b[i*uint64(s.encoding.size()):], s.encoding); {
			case v > a || any && v < best:
			case any && v == best:
				of = append(of, i)
			default:
				best, any, of = v, true, append(of[:0], i)
			}
		}
		for _, i := range of {
			text, err := s.text(ctx, i, nil)
			if err != nil {
				return sym.Symbol{}, false, err
			}
			if !sym.Local(string(text[1:])) {
				return sym.Symbol{Addr: best, Name: string(text[1:]), Type: text[0]}, true, nil
			}
		}
		if !any || best == 0 || ctx.Err() != nil {
			return sym.Symbol{}, false, ctx.Err()
		}
		a = best - 1
	}
	return sym.Symbol{}, false, errNotNear
}
