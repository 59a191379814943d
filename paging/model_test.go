// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"fmt"

	"github.com/remora-go/remora"
)

// machine is a geometry, told to the model in its own words.
type machine struct {
	name   string
	arch   string
	page   uint // shift
	va     uint
	lpa2   bool
	plain  bool // x86: not inverted
	thead  bool
	old    bool // arm64: before 6.10
	half   Half
	format func() (*Format, error)
}

func machines() []machine {
	var all []machine
	for _, levels := range []int{4, 5} {
		for _, plain := range []bool{false, true} {
			for _, half := range []Half{Whole, Lower} {
				all = append(all, machine{
					name: fmt.Sprintf("x86 %d %v %v", levels, plain, half), arch: "x86", page: 12, va: uint(12 + 9*levels), plain: plain, half: half,
					format: func() (*Format, error) { return X86(X86Options{Levels: levels, Plain: plain}) },
				})
			}
		}
	}
	for _, g := range [][2]uint{{12, 39}, {12, 48}, {12, 52}, {14, 36}, {14, 47}, {14, 48}, {14, 52}, {16, 42}, {16, 48}, {16, 52}} {
		for i, half := range []Half{Lower, Upper} {
			m := machine{arch: "arm64", page: g[0], va: g[1], lpa2: g[1] == 52 && g[0] < 16, half: half, old: i == 0}
			m.name = fmt.Sprintf("arm64 %d %d %v", g[0], g[1], half)
			m.format = func() (*Format, error) {
				o := ARM64Options{PageShift: int(g[0]), VABits: int(g[1])}
				if m.old {
					o.Kernel = Version{6, 1}
				}
				return ARM64(o)
			}
			all = append(all, m)
		}
	}
	for _, va := range []uint{39, 48, 57} {
		for _, thead := range []bool{false, true} {
			all = append(all, machine{
				name: fmt.Sprintf("riscv %d %v", va, thead), arch: "riscv", page: 12, va: va, thead: thead,
				format: func() (*Format, error) { return RISCV(RISCVOptions{VABits: int(va), THead: thead}) },
			})
		}
	}
	return all
}

// fate is what the model says of one address.
type fate struct {
	phys uint64
	err  error // what Extent.Err must be
}

// walk is the slow walker: one address, one entry at a time, from the words of the
// architectures' manuals.
func (m *machine) walk(mem *ram, root, va uint64) fate {
	bits := m.va
	if m.arch != "arm64" {
		bits-- // the top one is the sign
	}
	upper := va>>63 == 1
	if upper && ^va>>bits != 0 || !upper && va>>bits != 0 || upper && m.half == Lower || !upper && m.half == Upper {
		return fate{err: remora.ErrUnmapped}
	}
	per := m.page - 3
	levels := (m.va - m.page + per - 1) / per
	at := root
	for level := levels; ; level-- {
		shift := m.page + (level-1)*per
		width := min(per, m.va-shift)
		word, ok := mem.word(at + va>>shift%(1<<width)*8)
		if !ok {
			return fate{err: remora.ErrNoTable}
		}
		next, f := m.entry(word, level, shift, va)
		if f != nil {
			if upper && f.err != nil && f.err != remora.ErrCorrupt || upper && f.phys == moving {
				return fate{err: remora.ErrUnmapped}
			}
			if f.phys == moving {
				f.phys = m.moved(word) + va%(1<<shift)
			}
			return *f
		}
		at = next
	}
}

// moving stands for the address of a page that is being moved: see moved.
const moving = 1<<64 - 1

func (m *machine) entry(w uint64, level, shift uint, va uint64) (next uint64, f *fate) {
	switch m.arch {
	case "x86":
		return m.x86(w, level, shift, va)
	case "arm64":
		return m.arm(w, level, shift, va)
	}
	return m.riscv(w, level, shift, va)
}

func leaf(base, va uint64, shift uint) *fate {
	if base%(1<<shift) != 0 {
		return &fate{err: remora.ErrCorrupt}
	}
	return &fate{phys: base + va%(1<<shift)}
}

func bad() *fate { return &fate{err: remora.ErrCorrupt} }

func bit(w uint64, n uint) bool { return w>>n&1 == 1 }

func (m *machine) x86(w uint64, level, shift uint, va uint64) (uint64, *fate) {
	addr := w & (1<<52 - 1) >> 12 << 12
	switch {
	case w == 0:
		return 0, &fate{err: remora.ErrUnmapped}
	case bit(w, 0) && level > 1 && !bit(w, 7):
		return addr, nil
	case level > 3:
		return 0, bad()
	case bit(w, 0) && level == 1:
		return 0, leaf(addr, va, shift)
	case bit(w, 0):
		return 0, leaf(addr&^(1<<12), va, shift)
	case level == 1 && bit(w, 8) || level > 1 && bit(w, 7):
		if level > 1 && addr&^(1<<12)%(1<<shift) != 0 {
			return 0, bad()
		}
		if !m.plain {
			addr = ^w & (1<<52 - 1)
		}
		return 0, leaf(addr>>shift<<shift, va, shift)
	case bit(w, 8) || bit(w, 7) && !m.plain:
		return 0, bad()
	case m.plain:
		return 0, m.swap(w>>9&31, w>>14, shift)
	}
	return 0, m.swap(w>>59, ^w<<5>>14, shift)
}

func (m *machine) arm(w uint64, level, shift uint, va uint64) (uint64, *fate) {
	addr := w & (1<<48 - 1) >> m.page << m.page
	switch {
	case m.lpa2:
		addr = w&(1<<50-1)>>m.page<<m.page + w>>8%4<<50
	case m.page == 16:
		addr += w >> 12 % 16 << 48
	}
	blocks := map[uint]bool{12: true, 21: true, 30: true, 14: true, 25: true, 16: true, 29: true, 42: true, 39: m.lpa2, 36: m.lpa2}
	if m.page == 12 && shift == 36 || m.page == 14 && shift == 47 || m.page == 12 && shift == 48 {
		blocks[shift] = false
	}
	block := addr
	if level > 1 {
		block = addr >> 17 << 17
	}
	none := bit(w, 11)
	if m.old {
		none = bit(w, 58) || level > 1 && bit(w, 59)
	}
	switch {
	case w == 0:
		return 0, &fate{err: remora.ErrUnmapped}
	case w%4 == 3 && level > 1:
		return addr, nil
	case !blocks[shift], w%4 == 1 && level == 1:
		return 0, bad()
	case bit(w, 0):
		return 0, leaf(block, va, shift)
	case none && level > 3:
		return 0, bad()
	case none:
		return 0, leaf(block, va, shift)
	case bit(w, 1), m.old && bit(w, 58):
		return 0, bad()
	case m.old:
		return 0, m.swap(w>>3&31, w<<6>>14, shift)
	}
	return 0, m.swap(w>>6&31, w<<2>>14, shift)
}

func (m *machine) riscv(w uint64, level, shift uint, va uint64) (uint64, *fate) {
	if w == 0 {
		return 0, &fate{err: remora.ErrUnmapped}
	}
	swap := w
	if m.thead {
		w = w << 5 >> 5
	}
	addr := w << 10 >> 20 << 12
	rwx := w >> 1 & 7
	if !bit(w, 0) {
		switch {
		case !bit(w, 5) && (level == 1 || rwx == 0):
			if rwx != 0 {
				return 0, bad()
			}
			return 0, m.swap(swap>>7&31, swap>>12, shift)
		case level > 3:
			return 0, bad()
		}
		return 0, napot(w, level, addr, va, shift)
	}
	switch {
	case w>>54&31 != 0:
		return 0, bad()
	case rwx == 0 && (level == 1 || bit(w, 4) || bit(w, 6) || bit(w, 7) || w>>61 != 0):
		return 0, bad()
	case rwx == 0:
		return addr, nil
	case rwx&3 == 2, w>>61&3 == 3:
		return 0, bad()
	}
	return 0, napot(w, level, addr, va, shift)
}

func napot(w uint64, level uint, addr, va uint64, shift uint) *fate {
	if !bit(w, 63) {
		return leaf(addr, va, shift)
	}
	if level > 1 || addr>>12%16 != 8 {
		return bad()
	}
	return leaf(addr>>16<<16, va, 16)
}

// swap says what a type of Linux 6.15 or newer means, or of 6.1 for old.
func (m *machine) swap(kind, off uint64, shift uint) *fate {
	poison := uint64(24)
	if m.old {
		poison = 22
	}
	device, marker := poison+4, uint64(31)
	if m.old {
		marker = 30
	}
	if shift > m.page+2*(m.page-3) {
		return bad()
	}
	switch {
	case kind < poison:
		return &fate{err: remora.ErrNotPresent}
	case kind == poison, kind > marker:
		return &fate{err: remora.ErrPoisoned}
	case kind < device:
		frames := map[string]uint{"x86": 34, "arm64": 48 - m.page, "riscv": 44}[m.arch]
		if m.arch == "x86" && m.va == 57 {
			frames = 40
		}
		if m.lpa2 || m.page == 16 {
			frames = 52 - m.page
		}
		if off%(1<<frames)<<m.page%(1<<shift) != 0 {
			return bad()
		}
		return &fate{phys: moving}
	case kind < marker:
		return &fate{err: remora.ErrDevice}
	case bit(off, 2):
		return &fate{err: remora.ErrGuard}
	case bit(off, 1):
		return &fate{err: remora.ErrPoisoned}
	}
	return &fate{err: remora.ErrNotPresent}
}

// moved gives the address of a page that is being moved.
func (m *machine) moved(w uint64) uint64 {
	switch {
	case m.arch == "x86" && m.plain && m.va == 48:
		return w >> 14 % (1 << 34) << 12
	case m.arch == "x86" && m.plain:
		return w >> 14 % (1 << 40) << 12
	case m.arch == "x86" && m.va == 48:
		return ^w >> 9 % (1 << 34) << 12
	case m.arch == "x86":
		return ^w >> 9 % (1 << 40) << 12
	case m.arch == "riscv":
		return w >> 12 % (1 << 44) << 12
	}
	frames := 48 - m.page
	if m.lpa2 || m.page == 16 {
		frames = 52 - m.page
	}
	if m.old {
		return w >> 8 % (1 << frames) << m.page
	}
	return w >> 12 % (1 << frames) << m.page
}
