// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"fmt"

	"github.com/remora-go/remora"
)

// open finds where the addresses are, and how they are written: behind the index of tokens
// (6.4 and later), or before the number of symbols. What fits is what rises, as the symbols
// are sorted. Addresses with encPlace come out as physical ones.
func (k *kallsymsScan) open(ctx context.Context, phys remora.Space) (*kallsyms, error) {
	size := remora.Addr(4 * k.count)
	behind := k.index + 2*256
	type place struct {
		offsets, base remora.Addr // base 0: none
		encoding      encoding
	}
	places := []place{{up(behind, 8), up(up(behind, 8)+size, 8), encBase}}
	for _, back := range []remora.Addr{8, 4} { // of the number of symbols
		places = append(places, place{k.names - back - 8 - up(size, 8), k.names - back - 8, encBase})
	}
	places = append(places, place{up(behind, 4), 0, encPlace}, place{k.names - 8 - 2*size, 0, encAbsolute}, place{k.names - 4 - 2*size, 0, encAbsolute})
	for _, p := range places {
		at := k.kallsymsAt
		at.offsets, at.place, at.encoding = p.offsets, uint64(p.offsets), p.encoding
		if p.base != 0 {
			base, err := at.mem.Uint64(ctx, p.base)
			if err != nil || base>>63 == 0 || base&0xfff != 0 {
				continue
			}
			at.base = base
		}
		need := k.count * uint64(p.encoding.size())
		table := windowAt(ctx, phys, p.offsets, need).b
		if uint64(len(table)) < need {
			continue
		}
		if p.encoding == encBase && negative(table) {
			at.encoding = encPerCPU
		}
		s, err := openKallsyms(ctx, at)
		if err != nil || !s.rises(table) {
			continue
		}
		return s, s.findSmall(ctx, p.base, p.encoding == encAbsolute)
	}
	return nil, fmt.Errorf("no addresses for the %d names at %v", k.count, k.names)
}

// negative says whether most of the offsets are.
func negative(table []byte) bool {
	n := 0
	for i := 3; i < len(table); i += 4 {
		n += int(table[i] >> 7)
	}
	return n > len(table)/8
}

// rises says whether the addresses do, all but a few, and are not all alike, or alike with
// encPlace.
func (s *kallsyms) rises(table []byte) bool {
	size := uint64(s.encoding.size())
	rise, other := uint64(0), uint64(0)
	last := s.address(0, table, s.encoding)
	for i := uint64(1); i < s.count; i++ {
		a := s.address(i, table[i*size:], s.encoding)
		if a >= last {
			rise++
		}
		if a != last && (s.encoding != encPlace || a != last+4) {
			other++
		}
		last = a
	}
	return rise+s.count/32+2 >= s.count && other > s.count/4 && (s.encoding != encAbsolute || last>>63 != 0)
}

// firsts gives the addresses of symbols by name, of several the first one. What is not
// there is not among them.
func (s *kallsyms) firsts(ctx context.Context, names ...string) (map[string]uint64, error) {
	found := map[string]uint64{}
	for _, name := range names {
		all, err := s.lookup(ctx, name)
		if err != nil {
			return found, err
		}
		if len(all) > 0 {
			found[name] = uint64(all[0].Addr)
		}
	}
	return found, nil
}

// forImage gives the tables as they are seen through virtual addresses, with the base of
// the image.
func (s *kallsyms) forImage(mem *remora.Memory, base uint64) kallsymsAt {
	at := s.kallsymsAt
	at.mem = mem
	for _, a := range []*remora.Addr{&at.names, &at.tokens, &at.index, &at.markers, &at.seqs, &at.offsets} {
		if *a != 0 {
			*a -= remora.Addr(base)
		}
	}
	at.place -= base
	return at
}

// kallsymsOfImage finds the tables in the kernel's image by what they look like, for kernels
// whose VMCOREINFO does not say where they are.
func (k *Kernel) kallsymsOfImage(ctx context.Context) (*kallsyms, error) {
	g, err := k.Tables(ctx)
	if err != nil {
		return nil, err
	}
	s := g.kallsyms
	if stext, ok := g.symbol("_stext"); s == nil && ok && g.Image {
		f := &finder{ctx: ctx, phys: k.phys, h: &k.hints, info: g.Info}
		s = f.inImageAt(g, stext)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case s == nil:
		return nil, fmt.Errorf("there are no tables of kallsyms in the kernel's image: %w", remora.ErrUnrecognized)
	}
	return openKallsyms(ctx, s.forImage(k.mem, g.ImageBase))
}

// inImageAt finds the tables in an image from _stext on, by where that is.
func (f *finder) inImageAt(g *Found, stext remora.Addr) (found *kallsyms) {
	image := remora.Range{Start: stext + remora.Addr(g.ImageBase), Size: maxImage}
	n := 0
	_, _ = sweep(f.ctx, f.phys, image, traces, func(t trace) bool { // what cannot be read has none
		s, err := findKallsyms(f.ctx, f.phys, t.at)
		if t.note || err != nil {
			return f.ctx.Err() == nil
		}
		at, err := s.firsts(f.ctx, "_stext")
		if s.encoding == encPlace {
			at["_stext"] -= g.ImageBase
		}
		if n++; err == nil && at["_stext"] == uint64(stext) {
			found = s
		}
		return found == nil && n < maxTables
	})
	return found
}
