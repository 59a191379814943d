// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// sorted is where the numbers by name may be, each of size bytes.
type sorted struct {
	at   remora.Addr
	size int
}

// findSmall looks for the markers, and for the numbers by name: VMCOREINFO has neither.
// base is where the base of the addresses is, or 0; absolute says that they have 64 bits.
// A kernel that does not have them, or has them elsewhere, is no error.
//
// Until 6.3 the order in memory was offsets, base, number, names, markers, numbers by
// name, tokens, index, each aligned to 8; since 6.4 it is number, names, markers, tokens,
// index, offsets, base, numbers by name. Since 7.0 there is no base, and all are aligned
// to 4.
func (s *kallsyms) findSmall(ctx context.Context, base remora.Addr, absolute bool) error {
	n := remora.Addr(s.count)
	behind := s.offsets + 4*n
	if absolute {
		behind += 4 * n
	}
	if base > s.offsets {
		behind = base + 8
	}
	for _, g := range []sorted{{s.tokens - up(3*n, 8), 3}, {s.tokens - up(4*n, 8), 4}} {
		if s.findMarkers(ctx, g.at) && s.isSorted(ctx, g) {
			return nil
		}
	}
	if s.marks == nil && !s.findMarkers(ctx, s.tokens) {
		return ctx.Err()
	}
	for _, c := range []sorted{{up(behind, 8), 3}, {up(behind, 4), 3}, {up(behind, 8), 4}, {up(behind, 4), 4}} {
		if s.isSorted(ctx, c) {
			break
		}
	}
	return ctx.Err()
}

func up(a, align remora.Addr) remora.Addr { return (a + align - 1) &^ (align - 1) }

// findMarkers says whether the markers are before end, and keeps them.
func (s *kallsyms) findMarkers(ctx context.Context, end remora.Addr) bool {
	groups := remora.Addr(s.count+perMarker-1) / perMarker
	for _, c := range []struct {
		size remora.Addr
		wide bool
	}{{4 * groups, false}, {up(4*groups, 8), false}, {8 * groups, true}} {
		start := end - c.size
		if start <= s.names || start > end {
			continue
		}
		marks, err := s.readMarkers(ctx, start, c.wide)
		if err != nil {
			continue
		}
		s.marks = marks
		if s.lastEndsAt(ctx, start) {
			s.markers, s.wide = start, c.wide
			return true
		}
		s.marks = nil
	}
	return false
}

// lastEndsAt says whether the names of the last marker end right before an address.
func (s *kallsyms) lastEndsAt(ctx context.Context, a remora.Addr) bool {
	g := uint64(len(s.marks) - 1)
	if s.names+remora.Addr(s.marks[g]) >= a {
		return false
	}
	for _, plain := range []bool{false, true} {
		r := s.fromMarker(g)
		r.plain = plain
		var err error
		for i := g * perMarker; i < s.count && err == nil; i++ {
			_, err = r.next(ctx)
		}
		if end := s.names + remora.Addr(r.at); err == nil && (up(end, 8) == a || up(end, 4) == a) {
			return true
		}
	}
	return false
}

// isSorted says whether numbers by name are at a place, and keeps it. The first ones must
// be those of as many symbols, and the names of some must be in order.
func (s *kallsyms) isSorted(ctx context.Context, c sorted) bool {
	b := make([]byte, min(s.count, 1024)*uint64(c.size))
	if _, err := s.mem.ReadAt(ctx, b, c.at); err != nil {
		return false
	}
	var first []uint64
	for at := 0; at < len(b); at += c.size {
		first = append(first, number(b[at:at+c.size]))
	}
	slices.Sort(first)
	if n := len(first); first[n-1] >= s.count || len(slices.Compact(first)) < n {
		return false
	}
	s.seqs, s.seqSize = c.at, c.size
	looks := min(5, s.count)
	var last []byte
	for i := range looks {
		name, _, err := s.byName(ctx, i*(s.count-1)/max(looks-1, 1), nil)
		if err != nil || bytes.Compare(last, name) > 0 {
			s.seqs, s.seqSize = 0, 0
			return false
		}
		last = name
	}
	return true
}

// number decodes big-endian bytes.
func number(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// byName gives the name that is the i-th in the order of names, behind text, and the
// number of its symbol.
func (s *kallsyms) byName(ctx context.Context, i uint64, text []byte) (name []byte, no uint64, err error) {
	var b [4]byte
	if _, err := s.mem.ReadAt(ctx, b[:s.seqSize], s.seqs+remora.Addr(i*uint64(s.seqSize))); err != nil {
		return nil, 0, err
	}
	if no = number(b[:s.seqSize]); no >= s.count {
		return nil, 0, s.bad("kallsyms_seqs_of_names", int64(i)*int64(s.seqSize), fmt.Sprintf("the number of one of %d symbols", s.count), fmt.Sprint(no))
	}
	text, err = s.text(ctx, no, text)
	if err != nil {
		return nil, 0, err
	}
	return text[1:], no, nil
}

// text gives the letter and the name of a symbol, where there are markers.
func (s *kallsyms) text(ctx context.Context, number uint64, text []byte) ([]byte, error) {
	r := s.fromMarker(number / perMarker)
	for range number % perMarker {
		if _, err := r.next(ctx); err != nil {
			return nil, err
		}
	}
	tokens, err := r.next(ctx)
	if err != nil {
		return nil, err
	}
	if text = s.expand(text[:0], tokens); text == nil {
		return nil, s.badName(r.at, number)
	}
	return text, nil
}

// numbers gives the numbers of the symbols of a name, by the order of names. A linker
// that adds to names (-flto: foo.llvm.123) has the kernel sort them without that, so
// that names that begin alike may stand in any order.
func (s *kallsyms) numbers(ctx context.Context, name string) (all []uint64, err error) {
	want := []byte(name)
	low, high := uint64(0), s.count
	var text []byte
	for low < high {
		at := low + (high-low)/2
		got, _, err := s.byName(ctx, at, text)
		switch {
		case err != nil:
			return nil, err
		case bytes.Compare(got, want) < 0:
			low = at + 1
		default:
			high = at
		}
	}
	for i := low; i < s.count; i++ {
		got, number, err := s.byName(ctx, i, text)
		if err != nil {
			return nil, err
		}
		rest, ok := bytes.CutPrefix(got, want)
		if !ok || len(rest) > 0 && rest[0] != '.' {
			break
		}
		if len(rest) == 0 {
			all = append(all, number)
		}
	}
	slices.Sort(all)
	return all, nil
}

// lookup gives the symbols of a name in the order of the table. Where what the order of
// names leads to cannot be read all names that can be are looked at.
func (s *kallsyms) lookup(ctx context.Context, name string) ([]sym.Symbol, error) {
	if s.seqs != 0 && !s.all.known() {
		found, err := s.lookupSorted(ctx, name)
		if err == nil || ctx.Err() != nil {
			return found, err
		}
	}
	t, err := s.table(ctx)
	if t != nil {
		if found := t.Lookup(name); len(found) > 0 {
			return found, nil
		}
	}
	return nil, err
}

// lookupSorted finds symbols by the order of names.
func (s *kallsyms) lookupSorted(ctx context.Context, name string) ([]sym.Symbol, error) {
	numbers, err := s.numbers(ctx, name)
	if err != nil {
		return nil, err
	}
	var all []sym.Symbol
	for _, i := range numbers {
		text, err := s.text(ctx, i, nil)
		if err != nil {
			return nil, err
		}
		addr, err := s.addressOf(ctx, i, s.encoding)
		if err != nil {
			return nil, err
		}
		all = append(all, sym.Symbol{Addr: addr, Name: name, Type: text[0]})
	}
	return all, nil
}
