// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/btf"
)

// SwapArea is a swap area of the kernel.
type SwapArea struct {
	Type  int    // the number by which page tables name it
	Path  string // of the device or the file
	Pages uint64 // that it has room for, the header among them
	// InRAM says why a file cannot stand for the area: it is zram.
	InRAM bool
}

// SwapAreas gives the swap areas that are in use.
func (k *Kernel) SwapAreas(ctx context.Context) ([]SwapArea, error) {
	if k.info.Live {
		k.processAnswers.swap.forget()
	}
	s, err := k.swap(ctx)
	if err != nil {
		return nil, err
	}
	var all []SwapArea
	for i := range s.areas {
		if a := &s.areas[i]; a.used {
			all = append(all, a.SwapArea)
		}
	}
	return all, nil
}

// swapTypes is how many swap areas and special kinds there can be (MAX_SWAPFILES_SHIFT).
const swapTypes = 32

// swapFields is how swap areas lie in memory (include/linux/swap.h, mm/swap.h,
// mm/swap_table.h).
type swapFields struct {
	flags, max, file, bdev, clusters, swapMap, zeromap field // swap_info_struct
	typ, room                                          field
	table, zeroBits                                    field // swap_cluster_info
	disk, diskName                                     field
	xarray                                             xarrayFields

	sizeofSpace   uint64 // address_space
	sizeofCluster uint64 // swap_cluster_info
	sizeofXarray  uint64
	perCluster    uint64 // pages of a cluster
	pages         field  // address_space.i_pages

	rbRoot, rbNode, rbLeft, rbRight, entry field // of the trees that zswap had before 6.8
}

// swapKnown is what there is to know of swap before a page is looked for.
type swapKnown struct {
	f       swapFields
	frames  *pageFrames
	phys    remora.Space
	areas   [swapTypes]swapArea
	written pageFlags // of a page that is in the area as it is in memory
}

// pageFlags are flags of a struct page.
type pageFlags struct {
	at            field
	with, without uint64
}

// find finds the numbers of the flags. Where they are not known at stays empty.
func (f *pageFlags) find(ctx context.Context, t *Types) error {
	bit := map[string]uint64{}
	for d, err := range t.BTF().Named(ctx, "pageflags", btf.Enum, btf.Enum64) {
		if err != nil {
			return err
		}
		values, err := t.BTF().Values(ctx, d)
		if err != nil {
			return err
		}
		for _, v := range values {
			if v.N < 64 {
				bit[v.Name] = 1 << v.N
			}
		}
	}
	f.with = bit["PG_uptodate"] | bit["PG_swapcache"]
	f.without = bit["PG_dirty"] | bit["PG_writeback"]
	if bits.OnesCount64(f.with) != 2 || bits.OnesCount64(f.without) != 2 {
		return nil
	}
	return t.fields(ctx, wanted{into: &f.at, member: "page.flags", optional: true})
}

// swapArea is one area, and where its pages are noted.
type swapArea struct {
	SwapArea
	used    bool
	addr    remora.Addr // its struct swap_info_struct
	spaces  remora.Addr // up to 6.17: its array of struct address_space
	cluster remora.Addr // from 6.18 on: its array of struct swap_cluster_info
	zeros   remora.Addr // 6.12 to 7.0: its zeromap
	mapped  bool        // it has a swap_map: a free slot of the table says nothing
	zswap   remora.Addr // what zswap has for it
	rbtree  bool        // zswap's is of before 6.8
	blind   bool        // there may be a zswap, and what it has is not known
}

// swap finds out what there is to know.
func (k *Kernel) swap(ctx context.Context) (*swapKnown, error) {
	return k.processAnswers.swap.do(ctx, k.findSwap)
}

// swapWith is swap, and on a live machine asks again where an area has come into use since.
// One that is no longer in use has no page that page tables lead to.
func (k *Kernel) swapWith(ctx context.Context, area int) (*swapKnown, error) {
	s, err := k.swap(ctx)
	if k.info.Live && area < swapTypes && (err != nil || !s.areas[area].used || !s.areas[area].stands(ctx, k, &s.f)) {
		k.processAnswers.swap.forget()
		s, err = k.swap(ctx)
	}
	return s, err
}

// stands says whether an area is where it was.
func (a *swapArea) stands(ctx context.Context, k *Kernel, f *swapFields) bool {
	p := peekInto(ctx, k)
	defer p.done()
	const used = 1 // SWP_USED
	ok := p.uint(a.addr, f.flags)&used != 0 && p.uint(a.addr, f.max) == a.Pages && remora.Addr(p.uint(a.addr, f.zeromap)) == a.zeros
	if f.table.has() {
		ok = ok && remora.Addr(p.uint(a.addr, f.clusters)) == a.cluster
	}
	return ok && p.err == nil
}

func (k *Kernel) findSwap(ctx context.Context) (*swapKnown, error) {
	frames, err := k.pageFrames(ctx)
	if err != nil {
		return nil, err
	}
	t, err := k.Types(ctx)
	if err != nil {
		return nil, err
	}
	s := &swapKnown{frames: frames, phys: k.phys}
	if err := errors.Join(s.f.find(ctx, t), s.written.find(ctx, t)); err != nil {
		return nil, fmt.Errorf("swap: %w", err)
	}
	roots, err := k.swapRoots(ctx, &s.f)
	if err != nil {
		return nil, fmt.Errorf("swap areas: %w", err)
	}
	p := peekInto(ctx, k)
	defer p.done()
	for i := range s.areas[:min(roots.count, swapTypes)] {
		at := remora.Addr(p.word(roots.info + remora.Addr(8*i)))
		if at == 0 || p.err != nil {
			continue
		}
		if err := k.findArea(ctx, p, s, &roots, i, at); err != nil {
			return nil, fmt.Errorf("swap area %d: %w", i, err)
		}
	}
	if p.err != nil {
		return nil, fmt.Errorf("swap areas: %w", p.err)
	}
	return s, nil
}

// findArea fills in one area.
func (k *Kernel) findArea(ctx context.Context, p *peek, s *swapKnown, roots *swapRoots, i int, at remora.Addr) error {
	const used = 1 // SWP_USED
	a, f := &s.areas[i], &s.f
	if p.uint(at, f.flags)&used == 0 {
		return p.err
	}
	a.Type, a.used, a.addr = i, true, at
	a.Pages = p.uint(at, f.max)
	a.zeros = remora.Addr(p.uint(at, f.zeromap))
	a.mapped = f.swapMap.has()
	if f.table.has() {
		if f.perCluster == 0 || f.sizeofCluster == 0 {
			return fmt.Errorf("the size of a cluster is not known: %w", remora.ErrUnrecognized)
		}
		a.cluster = remora.Addr(p.uint(at, f.clusters))
	} else {
		a.spaces = remora.Addr(p.word(roots.spaces + remora.Addr(8*i)))
	}
	trees, err := k.symbol(ctx, "zswap_trees")
	switch {
	case err == nil:
		a.zswap, a.rbtree = remora.Addr(p.word(trees+remora.Addr(8*i))), f.rbRoot.has()
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		a.blind = f.entry.has()
	}
	if file := remora.Addr(p.uint(at, f.file)); file != 0 && p.err == nil {
		if a.Path, err = k.path(ctx, file); err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
	}
	a.InRAM = f.isZram(p, at)
	return p.err
}

// isZram says whether an area is on a zram device, by the name of its disk.
func (f *swapFields) isZram(p *peek, at remora.Addr) bool {
	if !f.disk.has() || !f.diskName.has() || p.err != nil {
		return false
	}
	bdev := remora.Addr(p.uint(at, f.bdev))
	if bdev == 0 {
		return false
	}
	disk := remora.Addr(p.uint(bdev, f.disk))
	const prefix = "zram"
	name := string(p.bytes(disk+remora.Addr(f.diskName.off), len(prefix)))
	return p.err == nil && name == prefix
}

// find finds the fields.
func (f *swapFields) find(ctx context.Context, t *Types) error {
	list := append(f.xarray.wanted(), []wanted{
		{into: &f.flags, member: "swap_info_struct.flags"},
		{into: &f.max, member: "swap_info_struct.max"},
		{into: &f.typ, member: "swap_info_struct.type"},
		{into: &f.room, member: "swap_info_struct.pages"},
		{into: &f.file, member: "swap_info_struct.swap_file"},
		{into: &f.bdev, member: "swap_info_struct.bdev"},
		{into: &f.clusters, member: "swap_info_struct.cluster_info"},
		{into: &f.swapMap, member: "swap_info_struct.swap_map", optional: true},
		{into: &f.zeromap, member: "swap_info_struct.zeromap", optional: true},
		{into: &f.table, member: "swap_cluster_info.table", optional: true},
		{into: &f.zeroBits, member: "swap_cluster_info.zero_bitmap", optional: true},
		{into: &f.disk, member: "block_device.bd_disk", optional: true},
		{into: &f.diskName, member: "gendisk.disk_name", optional: true},
		{into: &f.pages, member: "address_space.i_pages"},
		{into: &f.rbRoot, member: "zswap_tree.rbroot", optional: true},
		{into: &f.rbNode, member: "zswap_entry.rbnode", optional: true},
		{into: &f.rbLeft, member: "rb_node.rb_left", optional: true},
		{into: &f.rbRight, member: "rb_node.rb_right", optional: true},
		{into: &f.entry, member: "zswap_entry.swpentry", optional: true},
	}...)
	if err := t.fields(ctx, list...); err != nil {
		return err
	}
	if !f.entry.has() {
		if err := t.fields(ctx, wanted{into: &f.entry, member: "zswap_entry.offset", optional: true}); err != nil {
			return err
		}
	}
	var err1, err2 error
	f.sizeofSpace, err1 = t.size(ctx, "address_space")
	f.sizeofXarray, err2 = t.size(ctx, "xarray")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if f.table.has() {
		f.sizeofCluster, _ = t.size(ctx, "swap_cluster_info")
		size, _ := t.size(ctx, "swap_table") // an array of atomic_long_t
		f.perCluster = size / 8
	}
	return nil
}
