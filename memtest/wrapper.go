// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"reflect"
	"testing"

	"github.com/remora-go/remora"
)

// TestWrapper holds what wraps a Target against the rules of abilities. wrap is
// called several times, with a fake Target that can do everything and whose memory
// can be written, and with one that can do nothing else. Of the result it checks:
//
//   - remora.As finds Mapper, Symbolizer, Container, Explainer and Describer, which
//     answer as the target's own; and none of these where the target has none.
//   - Transparent: As also finds Translator and Pauser, the target itself, and, from
//     Memory, its Space; reading gives the target's bytes, and faults are explained.
//   - Opaque: As finds no Translator and no Pauser, from the result or its Memory;
//     and nothing that As can reach, written to, changes a byte of the target that
//     a write through the Memory of the result does not.
//   - Close closes the target and gives its error. Then Memory gives fs.ErrClosed,
//     and Close once more is fine.
//
// A wrapper of a Space is tested in a Target of its own, as in compose.Swap. What
// its Space does is for TestSpace.
func TestWrapper(t *testing.T, wrap func(remora.Target) remora.Target, opaque bool) {
	t.Helper()
	for _, c := range wrapperChecks() {
		t.Run(c.name, func(t *testing.T) {
			if err := c.check(wrap, opaque); err != nil {
				t.Fatal(err)
			}
		})
	}
}

type wrapperCheck struct {
	name  string
	check func(wrap func(remora.Target) remora.Target, opaque bool) error
}

func wrapperChecks() []wrapperCheck {
	return []wrapperCheck{
		{"abilities_are_forwarded", forwarded},
		{"a_lack_stays_a_lack", lacking},
		{"translator_and_pauser", actors},
		{"what_can_be_reached", reachable},
		{"memory", wrappedMemory},
		{"close", wrappedClose},
	}
}

// wrapped makes a fake and wraps it.
func wrapped(wrap func(remora.Target) remora.Target) (*fakeTarget, remora.Target, error) {
	fake := newFakeTarget()
	w := wrap(fake)
	if w == nil || w.Memory() == nil {
		return nil, nil, errors.New("the wrapper, or its Memory, is nil")
	}
	return fake, w, nil
}

// forwarded asks every ability that all wrappers hand on.
func forwarded(wrap func(remora.Target) remora.Target, _ bool) error {
	_, w, err := wrapped(wrap)
	if err != nil {
		return err
	}
	ctx := context.Background()
	var bad []error
	found := func(name string, ok bool, want any, ask func() any) {
		switch {
		case !ok:
			bad = append(bad, fmt.Errorf("As finds no %s", name))
		default:
			if got := ask(); !reflect.DeepEqual(got, want) {
				bad = append(bad, fmt.Errorf("%s gives %+v, want %+v", name, got, want))
			}
		}
	}
	mapper, ok := remora.As[remora.Mapper](w)
	found("Mapper", ok, fakeRegions(), func() any { return collect(mapper.Regions(ctx)) })
	container, ok := remora.As[remora.Container](w)
	found("Container", ok, fakeChildren(), func() any { return collect(container.Children(ctx)) })
	symbolizer, ok := remora.As[remora.Symbolizer](w)
	found("Symbolizer", ok, []any{fakeSymbols(), error(nil), fakeSymbols()[0], true}, func() any {
		all, err := symbolizer.Symbol(ctx, fakeSymbols()[0].Name)
		one, ok := symbolizer.SymbolAt(ctx, fakeSymbols()[0].Addr)
		return []any{all, err, one, ok}
	})
	describer, ok := remora.As[remora.Describer](w)
	found("Describer", ok, fakeFacts(), func() any {
		facts, _ := describer.Describe(ctx)
		return facts
	})
	explainer, ok := remora.As[remora.Explainer](w)
	found("Explainer", ok, []any{true, true}, func() any {
		err := explainer.Explain(ctx, remora.Read, fakeHole, remora.ErrUnmapped)
		return []any{errors.Is(err, errExplained), errors.Is(err, remora.ErrUnmapped)}
	})
	return errors.Join(bad...)
}

// lacking wraps a Target that has no ability.
func lacking(wrap func(remora.Target) remora.Target, _ bool) error {
	w := wrap(newFakeTarget().bare())
	var bad []error
	for name, found := range map[string]bool{
		"Mapper":     has[remora.Mapper](w),
		"Symbolizer": has[remora.Symbolizer](w),
		"Container":  has[remora.Container](w),
		"Describer":  has[remora.Describer](w),
		"Explainer":  has[remora.Explainer](w),
		"Translator": has[remora.Translator](w),
		"Pauser":     has[remora.Pauser](w),
	} {
		if found {
			bad = append(bad, fmt.Errorf("As finds a %s, and the target has none", name))
		}
	}
	return errors.Join(bad...)
}

func has[T any](v any) bool {
	_, ok := remora.As[T](v)
	return ok
}

// actors looks for the abilities that act on what lies beneath.
func actors(wrap func(remora.Target) remora.Target, opaque bool) error {
	fake, w, err := wrapped(wrap)
	if err != nil {
		return err
	}
	pauser, pauses := remora.As[remora.Pauser](w)
	translator, translates := remora.As[remora.Translator](w)
	if opaque {
		switch {
		case pauses || has[remora.Pauser](w.Memory()):
			return errors.New("As finds the Pauser beneath an opaque wrapper")
		case translates || has[remora.Translator](w.Memory()):
			return errors.New("As finds the Translator beneath an opaque wrapper")
		}
		return nil
	}
	if !pauses || !translates || !has[remora.Translator](w.Memory()) {
		return fmt.Errorf("As finds a Pauser: %t, a Translator: %t, one from Memory: %t; all should be", pauses, translates, has[remora.Translator](w.Memory()))
	}
	resume, err := pauser.Pause(context.Background())
	if err != nil || fake.paused != 1 {
		return fmt.Errorf("Pause: %v; the target is paused %d times, want 1", err, fake.paused)
	}
	if err := resume(); err != nil || fake.paused != 0 {
		return fmt.Errorf("resume: %v; the target is paused %d times, want 0", err, fake.paused)
	}
	if got, want := translator.Translate(context.Background(), fakeStart), fakeExtent(fakeStart); got != want {
		return fmt.Errorf("Translate gives %+v, want %+v", got, want)
	}
	return nil
}

// reachable walks what As would look at.
func reachable(wrap func(remora.Target) remora.Target, opaque bool) error {
	fake, w, err := wrapped(wrap)
	if err != nil {
		return err
	}
	if !opaque {
		if !has[*fakeTarget](w) {
			return errors.New("As does not reach the target of a transparent wrapper")
		}
		if !has[*fakeSpace](w.Memory()) {
			return errors.New("As does not reach the Space of the target from Memory")
		}
		return nil
	}
	own := fake.space.changedBy(w.Memory())
	for _, from := range []struct {
		name string
		v    any
	}{{"the wrapper", w}, {"its Memory", w.Memory()}} {
		for v := from.v; v != nil; v = unwrapOnce(v) {
			if v == any(fake) || v == any(fake.space) || v == any(fake.memory) {
				return fmt.Errorf("As reaches the %T beneath an opaque wrapper, from %s", v, from.name)
			}
			for a := range fake.space.changedBy(v) {
				if !own[a] {
					return fmt.Errorf("a %T that As reaches from %s can write to %v, the wrapper's Memory cannot", v, from.name, a)
				}
			}
		}
	}
	return nil
}

func unwrapOnce(v any) any {
	if u, ok := v.(interface{ Unwrap() any }); ok {
		return u.Unwrap()
	}
	return nil
}

// wrappedMemory reads through the wrapper. Only a transparent one must have the
// same memory.
func wrappedMemory(wrap func(remora.Target) remora.Target, opaque bool) error {
	_, w, err := wrapped(wrap)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if x, ok := remora.As[remora.Explainer](w.Memory()); ok {
		if err := x.Explain(ctx, remora.Read, fakeHole, remora.ErrUnmapped); !errors.Is(err, remora.ErrUnmapped) {
			return fmt.Errorf("Explain of the Memory gives %v, which does not wrap the cause", err)
		}
	}
	if opaque {
		return nil
	}
	got := make([]byte, fakeSize)
	if n, err := w.Memory().ReadAt(ctx, got, fakeStart); n != len(got) || err != nil || !bytes.Equal(got, fakeBytes()) {
		return fmt.Errorf("reading gives %d, %v and bytes that are the target's: %t", n, err, bytes.Equal(got, fakeBytes()))
	}
	if _, err := w.Memory().ReadAt(ctx, got[:1], fakeHole); !errors.Is(err, remora.ErrUnmapped) || !errors.Is(err, errExplained) {
		return fmt.Errorf("a fault is %v, want %v, explained by the target's Space", err, remora.ErrUnmapped)
	}
	return nil
}

func wrappedClose(wrap func(remora.Target) remora.Target, _ bool) error {
	fake, w, err := wrapped(wrap)
	if err != nil {
		return err
	}
	for range 2 {
		if err := w.Close(); err != nil {
			return fmt.Errorf("Close: %w", err)
		}
		if fake.closed == 0 {
			return errors.New("Close did not close the target")
		}
		if _, err := w.Memory().ReadAt(context.Background(), make([]byte, 1), fakeStart); !errors.Is(err, fs.ErrClosed) {
			return fmt.Errorf("after Close a read gives %v, want %v", err, fs.ErrClosed)
		}
	}
	if fake, w, err = wrapped(wrap); err != nil {
		return err
	}
	fake.broken = errors.New("the target cannot be closed")
	if err := w.Close(); !errors.Is(err, fake.broken) {
		return fmt.Errorf("Close gives %v, and the target's gave %w", err, fake.broken)
	}
	return nil
}
