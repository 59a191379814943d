// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"errors"
	"iter"
	"testing"

	"github.com/remora-go/remora"
)

func TestGoodWrappersPass(t *testing.T) {
	t.Run("transparent", func(t *testing.T) { TestWrapper(t, transparent, false) })
	t.Run("opaque", func(t *testing.T) { TestWrapper(t, opaque, true) })
	t.Run("opaque around transparent", func(t *testing.T) {
		TestWrapper(t, func(x remora.Target) remora.Target { return opaque(transparent(x)) }, true)
	})
	t.Run("transparent around opaque", func(t *testing.T) {
		TestWrapper(t, func(x remora.Target) remora.Target { return transparent(opaque(x)) }, true)
	})
}

// around is a Target whose Memory and abilities are chosen.
type around struct {
	remora.Target // the one below; only for Close
	memory        *remora.Memory
	link
}

func (a around) Memory() *remora.Memory { return a.memory }

// link ends a value with one ability in a chain of them.
type link struct{ next any }

func (l link) Unwrap() any { return l.next }

type (
	mapper struct {
		remora.Mapper
		link
	}
	symbolizer struct {
		remora.Symbolizer
		link
	}
	container struct {
		remora.Container
		link
	}
	describer struct {
		remora.Describer
		link
	}
	explainer struct {
		remora.Explainer
		link
	}
	pauser struct {
		remora.Pauser
		link
	}
	translator struct {
		remora.Translator
		link
	}
)

// through is a Space that lets all pass, and is transparent if it has a next.
type through struct {
	below remora.Space
	link
}

func (s through) Info() remora.Info { return s.below.Info() }

func (s through) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	return s.below.Transfer(ctx, op, segs)
}

func transparent(t remora.Target) remora.Target {
	return around{t, remora.New(through{t.Memory(), link{t.Memory()}}), link{t}}
}

// sealed refuses to write, and shows nothing of what is below.
type sealed struct{ below remora.Space }

func (s sealed) Info() remora.Info {
	info := s.below.Info()
	info.Writable = false
	return info
}

func (s sealed) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if op&remora.Write != 0 {
		return refuse(segs, remora.ErrReadOnly)
	}
	return s.below.Transfer(ctx, op, segs)
}

func opaque(t remora.Target) remora.Target {
	return around{t, remora.New(sealed{t.Memory()}), link{passive(t)}}
}

// passive is the chain of the abilities that an opaque wrapper hands on.
func passive(t remora.Target) any {
	var chain any
	if x, ok := remora.As[remora.Mapper](t); ok {
		chain = mapper{x, link{chain}}
	}
	if x, ok := remora.As[remora.Symbolizer](t); ok {
		chain = symbolizer{x, link{chain}}
	}
	if x, ok := remora.As[remora.Container](t); ok {
		chain = container{x, link{chain}}
	}
	if x, ok := remora.As[remora.Describer](t); ok {
		chain = describer{x, link{chain}}
	}
	if x, ok := remora.As[remora.Explainer](t); ok {
		chain = explainer{x, link{chain}}
	}
	return chain
}

// without takes the T out of the chain of an opaque wrapper.
func without[T any](t remora.Target) remora.Target {
	var kept []any
	for v := passive(t); v != nil; v = unwrapOnce(v) {
		if _, is := v.(T); !is {
			kept = append(kept, v)
		}
	}
	var chain any
	for _, v := range kept {
		switch v := v.(type) {
		case mapper:
			chain = mapper{v.Mapper, link{chain}}
		case symbolizer:
			chain = symbolizer{v.Symbolizer, link{chain}}
		case container:
			chain = container{v.Container, link{chain}}
		case describer:
			chain = describer{v.Describer, link{chain}}
		case explainer:
			chain = explainer{v.Explainer, link{chain}}
		}
	}
	return around{t, remora.New(sealed{t.Memory()}), link{chain}}
}

// adding puts an ability before those of an opaque wrapper.
func adding(t remora.Target, add func(link) any) remora.Target {
	return around{t, remora.New(sealed{t.Memory()}), link{add(link{passive(t)})}}
}

type (
	noRegions  struct{}
	oneName    struct{ remora.Symbolizer }
	forgetful  struct{ remora.Explainer }
	cannotStop struct{}
	identity   struct{}
)

func (noRegions) Regions(context.Context) iter.Seq2[remora.Region, error] {
	return each[remora.Region](nil)
}

func (n oneName) Symbol(ctx context.Context, name string) ([]remora.Symbol, error) {
	all, err := n.Symbolizer.Symbol(ctx, name)
	return all[:min(1, len(all))], err
}

func (f forgetful) Explain(context.Context, remora.Op, remora.Addr, error) error {
	return errExplained
}

func (cannotStop) Pause(context.Context) (func() error, error) { return nil, errors.ErrUnsupported }

func (identity) Translate(_ context.Context, va remora.Addr) remora.Extent {
	return remora.Extent{Virt: va, Phys: va, Size: 1}
}

// explainedSpace is a transparent Space with an Explain of its own.
type explainedSpace struct {
	through
	forgetful
}

// leaky shows the target as one with only a Memory and a Close.
type leaky struct {
	remora.Target
	link
}

// blank reads as zeros.
type blank struct{ through }

func (b blank) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	sum, err := b.through.Transfer(ctx, op, segs)
	for i := range segs {
		clear(segs[i].Buf[:segs[i].N])
	}
	return sum, err
}

// stays goes on answering after Close.
type stays struct{ sealed }

func (s stays) Transfer(_ context.Context, _ remora.Op, segs []remora.Seg) (sum int64, _ error) {
	for i := range segs {
		segs[i].N, segs[i].Err = len(segs[i].Buf), nil
		sum += int64(segs[i].N)
	}
	return sum, nil
}

type closer struct {
	around
	close func() error
}

func (c closer) Close() error { return c.close() }

// wrapperMutant is a wrapper with one fault.
type wrapperMutant struct {
	wrong, check string
	opaque       bool
	wrap         func(t remora.Target) remora.Target
}

func wrapperMutants() []wrapperMutant {
	return []wrapperMutant{
		{"the Mapper is dropped", "abilities_are_forwarded", true, without[remora.Mapper]},
		{"the Symbolizer is dropped", "abilities_are_forwarded", true, without[remora.Symbolizer]},
		{"the Container is dropped", "abilities_are_forwarded", true, without[remora.Container]},
		{"the Explainer is dropped", "abilities_are_forwarded", true, without[remora.Explainer]},
		{"the Describer is dropped", "abilities_are_forwarded", true, without[remora.Describer]},
		{"only one symbol of a name is given", "abilities_are_forwarded", true, func(t remora.Target) remora.Target {
			x, _ := remora.As[remora.Symbolizer](t)
			return adding(t, func(l link) any { return symbolizer{oneName{x}, l} })
		}},
		{"what is explained loses its cause", "abilities_are_forwarded", true, func(t remora.Target) remora.Target {
			return adding(t, func(l link) any { return explainer{forgetful{}, l} })
		}},

		{"a Mapper without a region for who has none", "a_lack_stays_a_lack", true, func(t remora.Target) remora.Target {
			return adding(t, func(l link) any { return mapper{noRegions{}, l} })
		}},
		{"a Pauser that refuses for who has none", "a_lack_stays_a_lack", false, func(t remora.Target) remora.Target {
			return around{t, t.Memory(), link{pauser{cannotStop{}, link{t}}}}
		}},
		{"a Translator that changes nothing for who has none", "a_lack_stays_a_lack", false, func(t remora.Target) remora.Target {
			return around{t, t.Memory(), link{translator{identity{}, link{t}}}}
		}},

		{"an opaque one forwards the Pauser", "translator_and_pauser", true, func(t remora.Target) remora.Target {
			x, _ := remora.As[remora.Pauser](t)
			return adding(t, func(l link) any { return pauser{x, l} })
		}},
		{"an opaque one forwards the Translator", "translator_and_pauser", true, func(t remora.Target) remora.Target {
			x, _ := remora.As[remora.Translator](t)
			return adding(t, func(l link) any { return translator{x, l} })
		}},
		{"the Memory of an opaque one forwards the Translator", "translator_and_pauser", true, func(t remora.Target) remora.Target {
			return around{t, remora.New(through{sealed{t.Memory()}, link{t.Memory()}}), link{passive(t)}}
		}},
		{"a transparent one drops Translator and Pauser", "translator_and_pauser", false, func(t remora.Target) remora.Target {
			return around{t, transparent(t).Memory(), link{passive(t)}}
		}},
		{"a transparent one pauses nothing", "translator_and_pauser", false, func(t remora.Target) remora.Target {
			return around{t, transparent(t).Memory(), link{pauser{cannotStop{}, link{t}}}}
		}},
		{"a transparent one translates by itself", "translator_and_pauser", false, func(t remora.Target) remora.Target {
			return around{t, transparent(t).Memory(), link{translator{identity{}, link{t}}}}
		}},

		{"an opaque one unwraps to the target", "what_can_be_reached", true, func(t remora.Target) remora.Target {
			return around{t, remora.New(sealed{t.Memory()}), link{t}}
		}},
		{"an opaque one unwraps to a Target of the same Memory", "what_can_be_reached", true, func(t remora.Target) remora.Target {
			return around{t, remora.New(sealed{t.Memory()}), link{leaky{t, link{passive(t)}}}}
		}},
		{"the Memory of an opaque one unwraps to the Space", "what_can_be_reached", true, func(t remora.Target) remora.Target {
			return around{t, remora.New(through{sealed{t.Memory()}, link{t.Memory()}}), link{passive(t)}}
		}},
		{"the Memory of an opaque one unwraps to a Space that can be written", "what_can_be_reached", true, func(t remora.Target) remora.Target {
			return around{t, remora.New(through{sealed{t.Memory()}, link{through{below: t.Memory()}}}), link{passive(t)}}
		}},
		{"a transparent one does not unwrap", "what_can_be_reached", false, func(t remora.Target) remora.Target {
			return around{t, transparent(t).Memory(), link{passive(t)}}
		}},
		{"the Memory of a transparent one does not unwrap", "what_can_be_reached", false, func(t remora.Target) remora.Target {
			return around{t, remora.New(through{below: t.Memory()}), link{t}}
		}},

		{"the Memory reads as zeros", "memory", false, func(t remora.Target) remora.Target {
			return around{t, remora.New(blank{through{t.Memory(), link{t.Memory()}}}), link{t}}
		}},
		{"the Memory's Explain loses the cause", "memory", false, func(t remora.Target) remora.Target {
			return around{t, remora.New(explainedSpace{through{t.Memory(), link{t.Memory()}}, forgetful{}}), link{t}}
		}},
		{"the Memory is of another Space", "memory", false, func(t remora.Target) remora.Target {
			return around{t, NewSparse(nil).Memory(), link{t}}
		}},

		{"Close leaves the target open", "close", true, func(t remora.Target) remora.Target {
			return closer{opaque(t).(around), func() error { return nil }}
		}},
		{"closing twice fails", "close", true, func(t remora.Target) remora.Target {
			closed := false
			return closer{opaque(t).(around), func() error {
				if closed {
					return errors.New("closed already")
				}
				closed = true
				return t.Close()
			}}
		}},
		{"the Memory answers after Close", "close", true, func(t remora.Target) remora.Target {
			return around{t, remora.New(stays{sealed{t.Memory()}}), link{passive(t)}}
		}},
		{"the error of closing is lost", "close", true, func(t remora.Target) remora.Target {
			return closer{opaque(t).(around), func() error { t.Close(); return nil }}
		}},
	}
}

func TestWrapperMutantsAreCaught(t *testing.T) {
	checks := map[string]wrapperCheck{}
	for _, c := range wrapperChecks() {
		checks[c.name] = c
	}
	seen := map[string]int{}
	for _, m := range wrapperMutants() {
		seen[m.check]++
		t.Run(m.wrong, func(t *testing.T) {
			c, ok := checks[m.check]
			if !ok {
				t.Fatalf("there is no check %q", m.check)
			}
			err := c.check(m.wrap, m.opaque)
			if err == nil {
				t.Fatalf("%s passes", m.check)
			}
			t.Log(err)
		})
	}
	for name := range checks {
		if seen[name] < 3 {
			t.Errorf("%s has %d mutants, want at least 3", name, seen[name])
		}
	}
}
