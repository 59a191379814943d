// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"
	"strings"

	"github.com/remora-go/remora"
)

// kallsymsOfInfo finds the tables by VMCOREINFO, which has their addresses since 6.0.
func kallsymsOfInfo(ctx context.Context, mem *remora.Memory, info *VMCoreInfo) (*kallsyms, error) {
	at := kallsymsAt{mem: mem}
	var count, base, addresses remora.Addr
	var missing []string
	for _, w := range []struct {
		into     *remora.Addr
		name     string
		optional bool
	}{
		{&at.names, "kallsyms_names", false}, {&count, "kallsyms_num_syms", false},
		{&at.tokens, "kallsyms_token_table", false}, {&at.index, "kallsyms_token_index", false},
		{&at.offsets, "kallsyms_offsets", true}, {&base, "kallsyms_relative_base", true}, {&addresses, "kallsyms_addresses", true},
	} {
		a, ok := info.Symbol(w.name)
		if *w.into = a; !ok && !w.optional {
			missing = append(missing, w.name)
		}
	}
	if len(missing) == 0 && at.offsets == 0 && addresses == 0 {
		missing = append(missing, "kallsyms_offsets")
	}
	if len(missing) > 0 {
		return nil, &remora.FormatError{File: "VMCOREINFO", Want: "SYMBOL() of " + strings.Join(missing, ", "), Got: "none", Err: remora.ErrUnrecognized}
	}
	n, err := mem.Uint32(ctx, count)
	if err != nil {
		return nil, err
	}
	at.count = uint64(n)
	var encodings []encoding
	if at.offsets != 0 {
		at.place = uint64(at.offsets)
		encodings = []encoding{encPlace}
		if base != 0 {
			if at.base, err = mem.Uint64(ctx, base); err != nil {
				return nil, err
			}
			encodings = []encoding{encPerCPU, encBase, encPlace}
		}
	} else {
		at.offsets, encodings = addresses, []encoding{encAbsolute}
	}
	s, err := openKallsyms(ctx, at)
	if err != nil {
		return nil, err
	}
	if err := s.findSmall(ctx, base, addresses != 0); err != nil {
		return nil, err
	}
	stext, ok := info.Symbol("_stext")
	if !ok {
		return nil, &remora.FormatError{File: "VMCOREINFO", Want: "SYMBOL(_stext)", Got: "none", Err: remora.ErrUnrecognized}
	}
	return s, s.choose(ctx, "_stext", stext, encodings)
}

// choose finds out how the addresses are written: so that the symbol of a name has an
// address.
func (s *kallsyms) choose(ctx context.Context, name string, want remora.Addr, encodings []encoding) error {
	var got []string
	right := func(i uint64) (bool, error) {
		for _, e := range encodings {
			a, err := s.addressOf(ctx, i, e)
			if err != nil || a == want {
				s.encoding = e
				return true, err
			}
			got = append(got, fmt.Sprintf("%v (%v)", a, e))
		}
		return false, nil
	}
	found, err := s.each(ctx, name, right)
	if err != nil || found {
		return err
	}
	if len(got) == 0 {
		got = []string{"no symbol of that name"}
	}
	return s.bad("kallsyms_offsets", 0, fmt.Sprintf("%s at %v", name, want), strings.Join(got, ", "))
}

// each calls do with the number of each symbol of a name, until that says true.
func (s *kallsyms) each(ctx context.Context, name string, do func(i uint64) (bool, error)) (bool, error) {
	if s.seqs == 0 {
		found, err := s.scan(ctx, name, false, do)
		if !found && ctx.Err() == nil {
			if found, err := s.scan(ctx, name, true, do); found {
				return found, err
			}
		}
		return found, err
	}
	all, err := s.numbers(ctx, name)
	if err != nil && ctx.Err() == nil {
		return s.scan(ctx, name, false, do)
	}
	for _, i := range all {
		if found, err := do(i); found || err != nil {
			return found, err
		}
	}
	return false, err
}

// scan is each where nothing but the names is known.
func (s *kallsyms) scan(ctx context.Context, name string, plain bool, do func(i uint64) (bool, error)) (bool, error) {
	text := make([]byte, 0, maxSymbolName+maxToken)
	r := &namesReader{s: s, plain: plain, size: 32 << 10}
	for i := range s.count {
		tokens, err := r.next(ctx)
		if err != nil {
			return false, err
		}
		if text = s.expand(text[:0], tokens); text == nil {
			return false, s.badName(r.at, i)
		}
		if string(text[1:]) == name {
			if found, err := do(i); found || err != nil {
				return found, err
			}
		}
	}
	return false, nil
}
