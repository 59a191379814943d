// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

// spanForms are the ways to write a range, for help.
var spanForms = [...][2]string{
	{"ADDR", "from there, as many bytes as the verb takes"},
	{"ADDR+LEN, ADDR-END", "so many bytes; up to END, which is not part of it"},
	{"[stack], libc.so.6", "the whole region, or the first one of that name"},
	{"NAME+OFF", "from an offset in a region, or from a symbol"},
	{"NAME+OFF+LEN", "so many bytes from there"},
}

// locator finds addresses by what a user writes. Names are looked up in the target.
type locator struct {
	ctx    context.Context
	target remora.Target
	regs   []remora.Region // nil until asked for
}

// size says how many bytes a range has that gives no length.
type size struct {
	n     uint64
	given bool // by a flag: then it holds for regions too, which are taken whole otherwise
}

// locate gives the locator of a target. Of a kernel it does not look at the regions: to
// list them takes long, and they have no names.
func locate(ctx context.Context, t remora.Target) *locator {
	if k, ok := t.(*target.Kernel); ok {
		t = addressed{t, kernelNames{k}}
	}
	return &locator{ctx: ctx, target: t}
}

// addressed is a target with names for addresses, and without all else that it can do.
type addressed struct {
	remora.Target
	remora.Symbolizer
}

// kernelNames gives the symbols of modules only where the kernel itself has none of a
// name: to find them takes longer. No name has a + or -.
type kernelNames struct{ *target.Kernel }

func (k kernelNames) Symbol(ctx context.Context, name string) ([]remora.Symbol, error) {
	if strings.ContainsAny(name, "+-") {
		return nil, nil
	}
	s, err := k.Symbols(ctx)
	if err != nil {
		return nil, err
	}
	found, err := s.LookupOwn(ctx, name)
	if err != nil || len(found) == 0 {
		return k.Kernel.Symbol(ctx, name)
	}
	all := make([]remora.Symbol, len(found))
	for i, one := range found {
		all[i] = remora.Symbol{Name: name, Addr: one.Addr, Size: one.Size}
	}
	return all, nil
}

// ambiguous is the error of a name that stands for several addresses.
func ambiguous(name string, found []remora.Symbol) error {
	const most = 8
	var at []string
	for _, s := range found[:min(len(found), most)] {
		at = append(at, s.Addr.String())
	}
	if len(found) > most {
		at = append(at, "...")
	}
	return usagef("%q stands for %d addresses: %s; \"remora sym\" tells more", name, len(found), strings.Join(at, ", "))
}

// parseSpan reads one range in the forms of spanForms. It may run past the last
// address.
func (l *locator) parseSpan(text string, def size) (remora.Range, error) {
	if text == "" {
		return remora.Range{}, usagef("an address is missing")
	}
	if text[0] < '0' || text[0] > '9' {
		return l.named(text, def)
	}
	at := strings.IndexAny(text, "+-")
	if at < 0 {
		a, err := parseNumber(text)
		return remora.Range{Start: remora.Addr(a), Size: def.n}, err
	}
	a, err := parseNumber(text[:at])
	if err != nil {
		return remora.Range{}, err
	}
	return extend(remora.Addr(a), text[at:], text)
}

// extend gives the range from a whose length "+LEN" or "-END" tells.
func extend(a remora.Addr, tail, text string) (remora.Range, error) {
	n, err := parseNumber(tail[1:])
	if err != nil {
		return remora.Range{}, err
	}
	if tail[0] == '+' {
		return remora.Range{Start: a, Size: n}, nil
	}
	if end := remora.Addr(n); end != 0 && end < a {
		return remora.Range{}, usagef("%q ends before it begins", text)
	}
	return remora.Between(a, remora.Addr(n)), nil
}

// parseAddr reads an address alone: a number, or NAME or NAME+OFF.
func (l *locator) parseAddr(text string) (remora.Addr, error) {
	r, err := l.parseSpan(text, size{given: true})
	if err == nil && r.Size != 0 {
		err = usagef("%q: an address is wanted here, not a range", text)
	}
	return r.Start, err
}

// named reads a range that begins with a name. The name itself may hold + and -, so
// as much as possible is taken for the name.
func (l *locator) named(text string, def size) (remora.Range, error) {
	name, tails := text, []string(nil)
	for {
		r, ok, err := l.lookUp(name)
		if err != nil {
			return remora.Range{}, err
		}
		if ok {
			return place(r, tails, text, def)
		}
		at := strings.LastIndexAny(name, "+-")
		if at <= 0 || len(tails) == 2 {
			break
		}
		if _, err := parseNumber(name[at+1:]); err != nil {
			break
		}
		tails = append([]string{name[at:]}, tails...)
		name = name[:at]
	}
	if isHex(text) {
		return remora.Range{}, usagef("%q is not an address; is 0x%s meant?", text, text)
	}
	return remora.Range{}, &noName{text}
}

// noName says that a target has no region or symbol of a name.
type noName struct{ text string }

func (e *noName) Error() string {
	return fmt.Sprintf("%q: no region or symbol of that name; \"remora maps\" lists the regions", e.text)
}

// place applies +OFF, and then +LEN or -END, to what a name stands for.
func place(r remora.Range, tails []string, text string, def size) (remora.Range, error) {
	whole := !def.given && r.Size > 0
	if len(tails) > 0 && tails[0][0] == '+' {
		off, err := parseNumber(tails[0][1:])
		if err != nil {
			return remora.Range{}, err
		}
		if r.Start+remora.Addr(off) < r.Start {
			return remora.Range{}, usagef("%q lies past the last address", text)
		}
		r.Start += remora.Addr(off)
		tails, whole = tails[1:], false
	}
	switch {
	case len(tails) > 1:
		return remora.Range{}, usagef("%q: want NAME, NAME+OFF, NAME-END or NAME+OFF+LEN", text)
	case len(tails) == 1:
		return extend(r.Start, tails[0], text)
	case !whole:
		r.Size = def.n
	}
	return r, nil
}

// lookUp finds a symbol, or else the first region with that name: as it stands in the
// map, or the last part of a path.
func (l *locator) lookUp(name string) (remora.Range, bool, error) {
	if s, ok := remora.As[remora.Symbolizer](l.target); ok && name[0] != '[' {
		found, err := s.Symbol(l.ctx, name)
		if err != nil {
			return remora.Range{}, false, err
		}
		for _, other := range found {
			if other.Addr != found[0].Addr {
				return remora.Range{}, false, ambiguous(name, found)
			}
		}
		if len(found) > 0 {
			return remora.Range{Start: found[0].Addr}, true, nil
		}
	}
	regs, err := l.regions()
	for _, reg := range regs {
		if reg.Name == name || reg.Name != "" && path.Base(reg.Name) == name {
			return reg.Range, true, nil
		}
	}
	return remora.Range{}, false, err
}

func (l *locator) regions() ([]remora.Region, error) {
	m, ok := remora.As[remora.Mapper](l.target)
	if !ok || l.regs != nil {
		return l.regs, nil
	}
	regs := []remora.Region{}
	for reg, err := range m.Regions(l.ctx) {
		if err != nil {
			return nil, err
		}
		regs = append(regs, reg)
	}
	l.regs = regs
	return regs, nil
}
