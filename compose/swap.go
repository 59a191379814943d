// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"errors"
	"io"
	"reflect"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// Swap gives t with the memory m, which was made from that of t, as in
//
//	t = compose.Swap(t, compose.ReadOnly(t.Memory()))
//
// The abilities are those of t. When m is transparent down to the memory of t, the
// result is transparent, too: remora.As sees all of t. Otherwise As finds
// remora.Mapper, Symbolizer, Container, Explainer and Describer where t has them,
// but nothing that acts on the memory below m: no Translator, no Pauser, not t.
//
// The Target owns t and m: its Close waits for calls through its Memory, refuses
// later ones with fs.ErrClosed, and closes m, the Spaces that m wraps transparently
// where they have a Close, and t, in this order.
func Swap(t remora.Target, m remora.Space) remora.Target {
	s := &swapped{target: t, gated: gated{below: m}}
	s.mem = remora.New(&s.gated)
	s.abilities = t
	if !same(root(m), root(t.Memory())) {
		s.abilities = opaque(t)
	}
	return s
}

type swapped struct {
	target    remora.Target
	mem       *remora.Memory
	gated     gated
	abilities any
}

var _ remora.Target = (*swapped)(nil)

func (s *swapped) Memory() *remora.Memory { return s.mem }

// Unwrap gives what has the abilities, for remora.As.
func (s *swapped) Unwrap() any { return s.abilities }

func (s *swapped) Close() error {
	if !s.gated.gate.Close() {
		return nil
	}
	var errs []error
	base := root(s.target.Memory())
	for v := any(s.gated.below); v != nil && !same(v, base); v = unwrap(v) {
		if c, ok := v.(io.Closer); ok {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(append(errs, s.target.Close())...)
}

// gated is a transparent Space that can be closed.
type gated struct {
	below remora.Space
	gate  xfer.Gate
}

var _ remora.Space = (*gated)(nil)

func (g *gated) Info() remora.Info { return g.below.Info() }

func (g *gated) Unwrap() any { return g.below }

func (g *gated) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if !g.gate.Enter() {
		return xfer.Refuse(segs, xfer.Refusal(op, g.below.Info().Ops, true, false))
	}
	defer g.gate.Leave()
	return g.below.Transfer(ctx, op, segs)
}

// unwrap gives what v wraps transparently, or nil.
func unwrap(v any) any {
	if u, ok := v.(interface{ Unwrap() any }); ok {
		return u.Unwrap()
	}
	return nil
}

// root gives the last thing that As would look at.
func root(v any) any {
	for next := v; next != nil; next = unwrap(v) {
		v = next
	}
	return v
}

func same(a, b any) bool {
	return a != nil && reflect.TypeOf(a).Comparable() && reflect.TypeOf(b).Comparable() && a == b
}

// The links are a chain that As walks: each is one ability of a Target, and not
// the Target itself.
type (
	mapperLink struct {
		remora.Mapper
		next any
	}
	symbolizerLink struct {
		remora.Symbolizer
		next any
	}
	containerLink struct {
		remora.Container
		next any
	}
	explainerLink struct {
		remora.Explainer
		next any
	}
	describerLink struct {
		remora.Describer
		next any
	}
)

func (l mapperLink) Unwrap() any     { return l.next }
func (l symbolizerLink) Unwrap() any { return l.next }
func (l containerLink) Unwrap() any  { return l.next }
func (l explainerLink) Unwrap() any  { return l.next }
func (l describerLink) Unwrap() any  { return l.next }

// opaque gives the chain of those abilities of t that may be handed on.
func opaque(t remora.Target) any {
	var chain any
	if x, ok := remora.As[remora.Mapper](t); ok {
		chain = mapperLink{x, chain}
	}
	if x, ok := remora.As[remora.Symbolizer](t); ok {
		chain = symbolizerLink{x, chain}
	}
	if x, ok := remora.As[remora.Container](t); ok {
		chain = containerLink{x, chain}
	}
	if x, ok := remora.As[remora.Explainer](t); ok {
		chain = explainerLink{x, chain}
	}
	if x, ok := remora.As[remora.Describer](t); ok {
		chain = describerLink{x, chain}
	}
	return chain
}
