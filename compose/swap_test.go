// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

func TestSwapKeepsAbilities(t *testing.T) {
	see := func(Event) {}
	for name, row := range map[string]struct {
		opaque bool
		wrap   func(remora.Space) remora.Space
	}{
		"the same memory": {false, func(s remora.Space) remora.Space { return s }},
		"trace":           {false, func(s remora.Space) remora.Space { return Trace(s, see) }},
		"cache":           {false, func(s remora.Space) remora.Space { return Cache(s, nil) }},
		"cached trace":    {false, func(s remora.Space) remora.Space { return Cache(Trace(s, see), nil) }},
		"read-only":       {true, ReadOnly},
		"overlay":         {true, func(s remora.Space) remora.Space { return Overlay(s) }},
		"window": {true, func(s remora.Space) remora.Space {
			w, err := Window(s, remora.Range{Size: 1 << 62}, 0)
			if err != nil {
				t.Fatal(err)
			}
			return w
		}},
		"a trace of read-only": {true, func(s remora.Space) remora.Space { return Trace(ReadOnly(s), see) }},
		"another memory":       {true, func(remora.Space) remora.Space { return Zero(remora.Range{Size: 1 << 62}) }},
	} {
		t.Run(name, func(t *testing.T) {
			memtest.TestWrapper(t, func(x remora.Target) remora.Target { return Swap(x, row.wrap(x.Memory())) }, row.opaque)
		})
	}
	t.Run("twice", func(t *testing.T) {
		memtest.TestWrapper(t, func(x remora.Target) remora.Target {
			x = Swap(x, ReadOnly(x.Memory()))
			return Swap(x, Trace(x.Memory(), see))
		}, true)
	})
}

// closes notes when it is closed.
type closes struct {
	remora.Space
	name  string
	err   error
	order *[]string
}

var _ remora.Space = (*closes)(nil)

func (c *closes) Unwrap() any { return c.Space }

func (c *closes) Close() error {
	*c.order = append(*c.order, c.name)
	return c.err
}

// closing is a Target that is not its own memory.
type closing struct{ *closes }

func (c closing) Memory() *remora.Memory { return remora.New(c.Space) }

func TestSwapClosesFromTheTop(t *testing.T) {
	var order []string
	inner, outer := errors.New("inner"), errors.New("target")
	below := mapped(t, nil, remora.Range{Size: 0x1000})
	target := closing{&closes{below, "target", outer, &order}}
	one := &closes{target.Memory(), "inner", inner, &order}
	two := &closes{Trace(one, func(Event) {}), "outer", nil, &order}
	s := Swap(target, two)
	if err := s.Close(); !errors.Is(err, inner) || !errors.Is(err, outer) {
		t.Errorf("Close gives %v, want both errors", err)
	}
	if want := []string{"outer", "inner", "target"}; !slices.Equal(order, want) {
		t.Errorf("closed %v, want %v", order, want)
	}
	if err := s.Close(); err != nil || len(order) != 3 {
		t.Errorf("Close once more: %v, closed %v", err, order)
	}
	if _, err := below.Memory().ReadAt(context.Background(), make([]byte, 1), 0); err != nil {
		t.Errorf("the memory of the target is the target's to close: %v", err)
	}
	if _, err := s.Memory().ReadAt(context.Background(), make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("a read after Close: %v", err)
	}
}
