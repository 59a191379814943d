// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"github.com/remora-go/remora"
)

// swapRoots are where the kernel's knowledge of swap begins.
type swapRoots struct {
	info   remora.Addr // swap_info: pointers to struct swap_info_struct, by type
	count  uint64      // of them
	spaces remora.Addr // swapper_spaces: pointers to arrays of struct address_space; 0 from 6.18 on
}

// errZswap says that zswap may have a page. Its slot in the area need not have been written
// then.
var errZswap = fmt.Errorf("zswap is a part of this kernel, and no symbol tells what it has: %w", remora.ErrNotPresent)

// swapRoots finds them by symbols. A kernel without symbols for its data
// (CONFIG_KALLSYMS_ALL=n) has them in its image all the same.
func (k *Kernel) swapRoots(ctx context.Context, f *swapFields) (r swapRoots, err error) {
	r.count = swapTypes
	r.info, err = k.symbol(ctx, "swap_info")
	if err != nil {
		if ctx.Err() != nil || !errors.Is(err, fs.ErrNotExist) {
			return r, err
		}
		found, why := k.searchSwap(ctx, f)
		if why != nil {
			return r, fmt.Errorf("%w; %w", err, why)
		}
		return found, nil
	}
	if at, err := k.symbol(ctx, "nr_swapfiles"); err == nil {
		p := peekInto(ctx, k)
		r.count = min(r.count, p.uint(at, field{size: 4}))
		p.done()
	}
	if !f.table.has() {
		r.spaces, err = k.symbol(ctx, "swapper_spaces")
	}
	return r, err
}

// swapSearch looks for them in the image of the kernel.
type swapSearch struct {
	f        *swapFields
	p        *peek
	write    remora.Addr // the function swap_writepage
	infos    []remora.Addr
	spaces   []remora.Addr // that point to what may be an array of address spaces
	writeOff field
	aops     field
	host     field
}

// searchSwap looks through the image for the pointers: to a swap area that is in use, which
// has its own type in it, and to address spaces that are written by swap_writepage.
func (k *Kernel) searchSwap(ctx context.Context, f *swapFields) (r swapRoots, err error) {
	t, err := k.Types(ctx)
	if err != nil {
		return r, err
	}
	s := &swapSearch{f: f}
	if !f.swapMap.has() || f.table.has() {
		return r, fmt.Errorf("they are looked for in kernels up to 6.15 alone: %w", errors.ErrUnsupported)
	}
	if err := t.fields(ctx,
		wanted{into: &s.aops, member: "address_space.a_ops"}, wanted{into: &s.host, member: "address_space.host"},
		wanted{into: &s.writeOff, member: "address_space_operations.writepage"}); err != nil {
		return r, fmt.Errorf("they are looked for in kernels up to 6.15 alone: %w", err)
	}
	if s.write, err = k.symbol(ctx, "swap_writepage"); err != nil {
		return r, err
	}
	s.p = peekInto(ctx, k)
	defer s.p.done()
	err = k.overImage(ctx, "swap area in use", 0, s.look)
	switch {
	case ctx.Err() != nil:
		return r, ctx.Err()
	case len(s.infos) == 0:
		return r, errors.Join(fmt.Errorf("no swap area in use was found in the kernel's image: %w", remora.ErrUnrecognized), err)
	}
	return s.choose()
}

// look looks at each word of a window that may be a pointer to memory of the kernel's.
func (s *swapSearch) look(at remora.Addr, b []byte) bool {
	const most = 1 << 10
	for i := 0; i+8 <= len(b) && len(s.infos)+len(s.spaces) < most; i += 8 {
		v := remora.Addr(binary.LittleEndian.Uint64(b[i:]))
		if v < middleOfSpace || v&7 != 0 || v > remora.MaxAddr-1<<20 {
			continue
		}
		if typ, ok := s.isArea(v); ok {
			s.infos = append(s.infos, at+remora.Addr(i)-remora.Addr(8*typ))
		} else if s.isSpaces(v) {
			s.spaces = append(s.spaces, at+remora.Addr(i))
		}
	}
	return s.p.ctx.Err() != nil
}

// isArea says whether a struct swap_info_struct that is in use is at a, and of what type.
func (s *swapSearch) isArea(a remora.Addr) (typ uint64, ok bool) {
	const used, writable, flags = 1, 2, 1 << 16 // SWP_USED, SWP_WRITEOK
	const bad = 0x3f                            // SWAP_MAP_BAD, which the header is
	p, f := s.p, s.f
	p.err = nil
	defer func() { p.err = nil }()
	if v := p.uint(a, f.flags); p.err != nil || v&used == 0 || v&writable == 0 || v >= flags {
		return 0, false
	}
	typ, most, pages := p.uint(a, f.typ), p.uint(a, f.max), p.uint(a, f.room)
	file, users := p.uint(a, f.file), remora.Addr(p.uint(a, f.swapMap))
	if p.err != nil || typ >= swapTypes || pages == 0 || pages >= most || file < middleOfSpace || users < middleOfSpace {
		return 0, false
	}
	return typ, p.bytes(users, 1)[0] == bad && p.err == nil
}

// isSpaces says whether an address space of the swap cache is at a.
func (s *swapSearch) isSpaces(a remora.Addr) bool {
	p := s.p
	p.err = nil
	defer func() { p.err = nil }()
	if host := p.uint(a, s.host); host != 0 || p.err != nil {
		return false
	}
	ops := remora.Addr(p.uint(a, s.aops))
	return ops > middleOfSpace && remora.Addr(p.uint(ops, s.writeOff)) == s.write && p.err == nil
}

// areas gives what an array at base has, by type. ok is false for what is no array of areas:
// where a kernel has none, it has no pointer.
func (s *swapSearch) areas(base remora.Addr) (all [swapTypes]remora.Addr, count uint64, ok bool) {
	const least = 16 // areas that every kernel has room for
	for i := range uint64(swapTypes) {
		s.p.err = nil
		at := remora.Addr(s.p.word(base + remora.Addr(8*i)))
		typ, used := remora.Addr(0), false
		if at != 0 {
			n, is := s.isArea(at)
			typ, used = remora.Addr(n), is
		}
		switch {
		case used && typ == remora.Addr(i):
			all[i], count = at, i+1
		case at != 0 && i < least && (used || at < middleOfSpace):
			return all, 0, false
		}
	}
	return all, count, count > 0
}

// choose takes the array of areas, and the array of address spaces that has some for each
// area. There may be other pointers to an area; they must tell the same.
func (s *swapSearch) choose() (r swapRoots, err error) {
	var known [swapTypes]remora.Addr
	for _, at := range s.infos {
		all, count, ok := s.areas(at)
		switch {
		case !ok || r.info == at:
		case r.info == 0:
			r.info, r.count, known = at, count, all
		case all != known:
			return r, fmt.Errorf("swap areas are in two arrays, at %v and %v: %w", r.info, at, remora.ErrUnrecognized)
		}
	}
	if r.info == 0 {
		return r, fmt.Errorf("no array of swap areas was found in the kernel's image: %w", remora.ErrUnrecognized)
	}
	first := uint64(0)
	for known[first] == 0 {
		first++
	}
	for _, at := range s.spaces {
		base, all := at-remora.Addr(8*first), true
		for i := range r.count {
			s.p.err = nil
			if known[i] != 0 {
				all = all && s.isSpaces(remora.Addr(s.p.word(base+remora.Addr(8*i))))
			}
		}
		if all && r.spaces != 0 && r.spaces != base {
			return r, fmt.Errorf("the swap cache may be at %v and at %v: %w", r.spaces, base, remora.ErrUnrecognized)
		} else if all {
			r.spaces = base
		}
	}
	if r.spaces == 0 {
		return r, fmt.Errorf("the swap cache was not found in the kernel's image: %w", remora.ErrUnrecognized)
	}
	return r, nil
}
