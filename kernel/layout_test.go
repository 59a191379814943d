// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

func TestLayout(t *testing.T) {
	for _, mode := range testimage.TableModes() {
		m := newMachine(mode)
		page := uint64(1) << mode.PageShift
		var direct uint64
		switch mode.Arch {
		case "x86-64":
			direct = 0xffff9d2d00000000
			if mode.Levels == 5 {
				direct = 0xff4593ea40000000
			}
		case "arm64":
			if mode.VABits == 36 {
				continue // VA_BITS is too small for what the formula is good for
			}
			const physOffset = 0x40000000
			direct = -(uint64(1) << mode.VABits) - physOffset
			m.info["NUMBER(PHYS_OFFSET)"] = fmt.Sprintf("%#x", physOffset)
			m.load += physOffset
		default:
			direct = -(uint64(1) << (mode.VABits - 1)) + 1<<30
			m.info["NUMBER(PAGE_OFFSET)"] = fmt.Sprintf("%#x", direct+1<<31)
			m.info["NUMBER(phys_ram_base)"] = "0x80000000"
		}
		if mode.Arch == "arm64" {
			m = machineAt(mode, m.load, m.info)
		}
		for at := uint64(0); at < 64*page; at += page {
			m.tables.Map(direct+m.load+at, m.load+at, page)
		}
		k := New(m.space(t), "sample", m.hints())
		l, err := k.Layout(t.Context())
		if err != nil || !l.Direct || uint64(l.DirectBase) != direct {
			t.Errorf("%v: %+v, %v, want %#x", mode, l, err, direct)
			continue
		}
		if want := (Piece{remora.Range{Start: remora.Addr(m.load), Size: imageBytes}, remora.Addr(m.text)}); len(l.Image) != 1 || l.Image[0] != want {
			t.Errorf("%v: %+v, want %+v", mode, l.Image, want)
		}
		k.Close()
	}
}

// With PTI a kernel unmaps what lies between the parts of its image.
func TestLayoutOfAnImageWithGaps(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	for at := uint64(3 << 18); at < 1<<20; at += 4096 {
		m.tables.Set(m.text+at, 1, 0)
	}
	m.tables.Map(m.text+imageBytes+4096, 0x20000000, 4096) // another mapping
	k := New(m.space(t), "sample", m.hints())
	l, err := k.Layout(t.Context())
	want := []Piece{
		{remora.Range{Start: remora.Addr(m.load), Size: 3 << 18}, remora.Addr(m.text)},
		{remora.Range{Start: remora.Addr(m.load + 1<<20), Size: imageBytes - 1<<20}, remora.Addr(m.text + 1<<20)},
	}
	if err != nil || !slices.Equal(l.Image, want) {
		t.Errorf("%+v, %v, want %+v", l, err, want)
	}
}

// What looks like the direct map has to hold the kernel's image too.
func TestLayoutOfAMappingThatIsNoDirectMap(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	const base = 0xffff900000000000
	m.tables.Map(base, 0, 4096)
	m.tables.Map(base+m.load, 0x123000, 4096)
	k := New(m.space(t), "sample", m.hints())
	if l, err := k.Layout(t.Context()); err != nil || l.Direct {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestLayoutWithoutADirectMap(t *testing.T) {
	for _, mode := range testimage.TableModes() {
		m := newMachine(mode)
		m.info["NUMBER(PHYS_OFFSET)"], m.info["NUMBER(PAGE_OFFSET)"], m.info["NUMBER(phys_ram_base)"] = "0", "0", "0"
		k := New(m.space(t), "sample", m.hints())
		if l, err := k.Layout(t.Context()); err != nil || l.Direct || len(l.Image) != 1 {
			t.Errorf("%v: %+v, %v", mode, l, err)
		}
	}
	if _, err := New(memtest.NewSparse(nil), "nothing", &Hints{}).Layout(t.Context()); !errors.Is(err, remora.ErrNoTable) {
		t.Errorf("without tables: %v", err)
	}
}

func TestUname(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	want := [6]string{"Linux", "host", "6.12.1-test", "#1 SMP", "x86_64", "(none)"}
	m.info["SYMBOL(init_uts_ns)"] = fmt.Sprintf("%x", m.text+0x1000)
	m.info["OFFSET(uts_namespace.name)"] = "4"
	for i, s := range want {
		m.mem.Write(m.load+0x1004+uint64(i)*unameLen, append([]byte(s), 0))
	}
	k := New(m.space(t), "sample", m.hints())
	if got, err := k.Uname(t.Context()); err != nil || got != want {
		t.Errorf("%q, %v", got, err)
	}
	delete(m.info, "SYMBOL(init_uts_ns)")
	if got, err := New(m.space(t), "sample", m.hints()).Uname(t.Context()); !errors.Is(err, remora.ErrUnrecognized) {
		t.Errorf("%q, %v", got, err)
	}
	m.info["SYMBOL(init_uts_ns)"] = "1000"
	if got, err := New(m.space(t), "sample", m.hints()).Uname(t.Context()); !errors.Is(err, remora.ErrUnmapped) {
		t.Errorf("%q, %v", got, err)
	}
}

// Before _stext arm64 gives its memory away, where a stack may come to be.
func TestLayoutOfAnImageWithAnotherMappingBeforeIt(t *testing.T) {
	m := newMachine(testimage.TableModes()[0])
	for at := uint64(0); at < 1<<16; at += 4096 {
		m.tables.Map(m.text+at, 0x20000000+at, 4096)
	}
	m.info["SYMBOL(_stext)"] = fmt.Sprintf("%x", m.text+1<<16)
	k := New(m.space(t), "sample", m.hints())
	defer k.Close()
	l, err := k.Layout(t.Context())
	want := Piece{remora.Range{Start: remora.Addr(m.load + 1<<16), Size: imageBytes - 1<<16}, remora.Addr(m.text + 1<<16)}
	if err != nil || len(l.Image) != 1 || l.Image[0] != want {
		t.Errorf("%+v, %v, want %+v", l, err, want)
	}
}
