// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
	"github.com/remora-go/remora/paging"
)

// village is a kernel with one process, whose pages are in all places where the kernel
// keeps pages. What the kernel knows of them is in the image of the kernel.
type village struct {
	*machine
	t     testing.TB
	k     *Kernel
	phys  *memtest.Sparse
	user  *testimage.Tables
	vmas  []VMA
	swap  *swapKnown
	areas []memtest.Area
	place map[remora.Addr]remora.Addr // of user pages that have memory of their own
	next  uint64                      // frame
}

const (
	villagePage  = 4096
	villageRAM   = 0x10000000 // frames of the process
	villageUser  = 0x7f0000000000
	atPages      = 0x100000 // in the kernel's image: the array of struct page, from villageRAM on
	atSwapSpaces = 0x90000
	atXarrays    = 0x98000
	atFiles      = 0xb0000
	sizeofPage   = 64
	villageSwap  = 3 // the type of the area
)

func newVillage(t testing.TB) *village {
	m := newMachine(testimage.TableModes()[0])
	v := &village{machine: m, t: t, next: villageRAM, place: map[remora.Addr]remora.Addr{}}
	v.user = testimage.NewTables(m.mem, m.mode, 0x8000000)
	v.mem.Write(v.load+imageBytes-8, make([]byte, 8))
	for at := uint64(0x90000); at < atPages+0x4000; at += villagePage { // all of it is there
		v.mem.Write(v.load+at, make([]byte, villagePage))
	}
	return v
}

// image gives where something in the image of the kernel is mapped.
func (v *village) image(at uint64) remora.Addr { return remora.Addr(v.text + at) }

func (v *village) word(at uint64, words ...uint64) {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	v.mem.Write(v.load+at, b)
}

// inUse is a frame with contents.
type inUse struct {
	frame uint64
	data  []byte
}

// frame makes a frame with contents, and gives its number.
func (v *village) frame(seed byte) (uint64, []byte) {
	data := make([]byte, villagePage)
	for i := range data {
		data[i] = seed + byte(i*7) + byte(i>>8)
	}
	v.mem.Write(v.next, data)
	v.next += villagePage
	return v.next/villagePage - 1, data
}

// structPage gives the struct page of a frame, and says what it is of.
func (v *village) structPage(frame uint64, mapping remora.Addr, index, private uint64) remora.Addr {
	at := atPages + (frame-villageRAM/villagePage)*sizeofPage
	v.word(at+24, uint64(mapping), index, private)
	return v.image(at)
}

func (v *village) frames() *pageFrames {
	return &pageFrames{
		base: v.image(atPages) - villageRAM/villagePage*sizeofPage, size: sizeofPage, shift: 12, limit: 1 << 40,
		mapping: atByte(24, 8), index: atByte(32, 8), private: atByte(40, 8), bytes: 48,
	}
}

// area adds what the test expects at a, where pages of memory follow.
func (v *village) area(a remora.Addr, data []byte, size uint64, fault func(remora.Op) []error) {
	v.areas = append(v.areas, memtest.Area{Range: remora.Range{Start: a, Size: size}, Data: data, Fault: fault})
}

// present maps a page of the process's own.
func (v *village) present(a remora.Addr) {
	frame, data := v.frame(byte(a >> 12))
	v.user.Map(uint64(a), frame*villagePage, villagePage)
	v.place[a] = remora.Addr(frame * villagePage)
	v.area(a, data, villagePage, nil)
}

// readOnly expects data that cannot be written.
func (v *village) readOnly(a remora.Addr, data []byte) {
	v.area(a, data, uint64(len(data)), memtest.OnWrite(remora.ErrNotPresent))
}

// shared expects a page of a shared mapping, which can be written though the page tables do
// not lead there.
func (v *village) shared(a remora.Addr, p inUse) {
	v.place[a] = remora.Addr(p.frame * villagePage)
	v.area(a, p.data, villagePage, nil)
}

func (v *village) hole(a remora.Addr, pages uint64, why error) {
	v.area(a, nil, pages*villagePage, memtest.Always(why))
}

// vma adds a mapping.
func (v *village) vma(a remora.Addr, pages uint64, file *mappedFile, shared bool) {
	m := VMA{file: file, page: 5}
	m.Range = remora.Range{Start: a, Size: pages * villagePage}
	m.Perm, m.Shared = remora.PermRead|remora.PermWrite, shared
	if file != nil {
		m.ops, m.Name = 1, file.name
	}
	v.vmas = append(v.vmas, m)
}

// file makes a file with some pages in the page cache, and gives their contents.
func (v *village) file(n uint64, magic uint64, pages map[int]byte, swapped map[int]uint64) (*mappedFile, map[int]inUse) {
	at := atFiles + n*0x1000
	f := &mappedFile{name: "/file", magic: magic, shift: 12, mapping: v.image(at), pages: v.image(at + 0x100), size: 12*villagePage - 100}
	node := at + 0x400
	v.word(at+0x100+8, uint64(v.image(node))|2)
	data := map[int]inUse{}
	for i, seed := range pages {
		frame, b := v.frame(seed)
		data[i] = inUse{frame, b}
		v.word(node+40+uint64(8*i), uint64(v.structPage(frame, f.mapping, uint64(i), 0)))
	}
	for i, off := range swapped {
		v.word(node+40+uint64(8*i), (villageSwap<<swapOffsetBits|off)<<1|1)
	}
	return f, data
}

// makeSwap makes the swap area in the form that kernels have up to 6.17: page 1 is in the
// swap cache, page 2 is zeros, page 3 in zswap, and page 4 in the area alone.
func (v *village) makeSwap() inUse {
	s := &swapKnown{frames: v.frames()}
	s.f = swapFields{pages: atByte(8, 8), xarray: xarrayLayout(), sizeofSpace: 64, sizeofXarray: 16}
	s.areas[villageSwap] = swapArea{SwapArea: SwapArea{Type: villageSwap, Path: "/dev/swap", Pages: 64}, used: true,
		spaces: v.image(atSwapSpaces), zeros: v.image(atSwapSpaces + 0x800), zswap: v.image(atSwapSpaces + 0x900)}
	frame, data := v.frame(77)
	node := uint64(atXarrays)
	v.word(atSwapSpaces+8+8, uint64(v.image(node))|2)
	v.word(node+40+8, uint64(v.structPage(frame, 0, 0, villageSwap<<swapOffsetBits|1)))
	v.word(node+40+8*3, 99<<1|1, 98<<1|1) // shadows
	v.word(atSwapSpaces+0x800, 1<<2)
	packed := node + 0x800
	v.word(atSwapSpaces+0x900+8, uint64(v.image(packed))|2)
	v.word(packed+40+8*3, uint64(v.image(0)))
	v.swap = s
	return inUse{frame, data}
}

// swapData is what the swap file has: noise, so that what should not be read from there
// shows.
func swapData(pages int) []byte {
	b := bytes.Repeat([]byte("what was in the swap area before"), pages*villagePage/32)
	copy(b[4*villagePage:], bytes.Repeat([]byte("the page in the area"), 100))
	return b
}

// swapFile gives a copy of the area.
func (v *village) swapFile() *SwapFile {
	b := swapData(64)
	binary.LittleEndian.PutUint32(b[swapInfoAt:], swapVersion)
	binary.LittleEndian.PutUint32(b[swapInfoAt+4:], 63)
	copy(b[villagePage-len(swapMagic):], swapMagic)
	return &SwapFile{Type: villageSwap, R: bytes.NewReader(b), Size: int64(len(b)), Name: "swap file"}
}

// answered makes k know something without looking for it.
func answered[T any](o *once[T], v T) { o.answer.Store(&answer[T]{value: v}) }

// process opens what was made.
func (v *village) process(swap bool) *Process {
	v.t.Helper()
	v.phys = v.space(v.t)
	v.k = New(v.phys, "village", v.hints())
	found, err := v.k.Tables(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	answered(&v.k.processAnswers.page, v.frames())
	if v.swap != nil {
		v.swap.phys = v.phys
		answered(&v.k.processAnswers.swap, v.swap)
	}
	files := new([swapTypes]*swapSpace)
	if swap {
		if files, err = v.k.swapSpaces(v.t.Context(), []SwapFile{*v.swapFile()}); err != nil {
			v.t.Fatal(err)
		}
	}
	p := &Process{Task: &Task{PID: 7, TGID: 7}, k: v.k}
	p.pager = newPager(v.k, v.k.TablesAt(found.Format, remora.Addr(v.user.Root), paging.Lower), v.vmas, xarrayLayout(), files)
	p.view = paging.New(v.phys, p.pager, &paging.ViewOptions{Name: "village@7"})
	p.mem = remora.New(p)
	return p
}

// peek looks at the memory that pages of the process have, or else at what was expected.
func (v *village) peek(b []byte, a remora.Addr) error {
	for len(b) > 0 {
		page := a &^ (villagePage - 1)
		n := min(len(b), int(villagePage-(a-page)))
		if at, ok := v.place[page]; ok {
			if err := v.phys.Peek(b[:n], at+a-page); err != nil {
				return err
			}
		} else if !v.expected(b[:n], a) {
			return errors.New("no page there")
		}
		b, a = b[n:], a+remora.Addr(n)
	}
	return nil
}

func (v *village) expected(b []byte, a remora.Addr) bool {
	for i := range v.areas {
		if r := &v.areas[i]; r.Contains(a) && r.Data != nil {
			copy(b, r.Data[a-r.Start:])
			return true
		}
	}
	return false
}
