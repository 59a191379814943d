// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"debug/elf"
)

// narrow says whether the machine's words have 4 bytes.
func (wr *writing) narrow() bool { return wr.c.Meta.WordSize == 4 }

// packs says whether 8-byte fields of the machine need no alignment: i386 alone.
func (wr *writing) packs() bool { return wr.narrow() && wr.c.Meta.Machine == elf.EM_386 }

// subHeaderSize is the size of the sub header, without notes.
func (wr *writing) subHeaderSize() int {
	switch {
	case wr.packs():
		return 80
	case wr.narrow():
		return 96
	}
	return 104
}

// fields writes what a compiler would lay out.
type fields struct {
	wr *writing
	b  []byte
}

func (f *fields) u32(v uint32) { f.b = f.wr.order().AppendUint32(f.b, v) }

func (f *fields) u64(v uint64) {
	if !f.wr.packs() {
		f.align(8)
	}
	f.b = f.wr.order().AppendUint64(f.b, v)
}

// word writes an unsigned long.
func (f *fields) word(v uint64) {
	if f.wr.narrow() {
		f.u32(uint32(v))
		return
	}
	f.align(8)
	f.b = f.wr.order().AppendUint64(f.b, v)
}

func (f *fields) align(n int) {
	for len(f.b)%n != 0 {
		f.b = append(f.b, 0)
	}
}

// kdumpHeaders writes the main header and the sub header.
func (wr *writing) kdumpHeaders(l *kdumpPlan) error {
	m := &wr.c.Meta
	f := &fields{wr: wr, b: []byte("KDUMP   ")}
	f.u32(kdumpVersions)
	for _, s := range wr.uname() {
		field := make([]byte, kdumpUnameLen)
		copy(field[:kdumpUnameLen-1], s)
		f.b = append(f.b, field...)
	}
	f.align(4)
	sec, usec := uint64(0), uint64(0)
	if !m.Time.IsZero() {
		sec, usec = uint64(m.Time.Unix()), uint64(m.Time.Nanosecond()/1000)
	}
	f.word(sec)
	f.word(usec)
	status := wr.o.Codec.flag()
	if wr.incomplete() {
		status |= kdumpIncomplete
	}
	cpus := 0
	for i := range m.CPUs {
		if m.CPUs[i].Source == "NT_PRSTATUS" {
			cpus++
		}
	}
	for _, v := range []uint64{uint64(status), wr.page, l.sub, l.bitmap, min(l.maxPfn, 1<<32-1), min(l.present, 1<<32-1),
		0, min(l.described, 1<<32-1), 0, uint64(max(cpus, 1))} {
		f.u32(uint32(v))
	}
	if err := wr.w.put(f.b, 0); err != nil {
		return err
	}
	base := wr.c.PhysBase
	if wr.narrow() && m.Machine == elf.EM_ARM {
		base = 0 // there it is the page that the bitmaps begin with
	}
	f.b = nil
	f.word(base)
	f.u32(uint32(max(m.Level, 0)))
	f.u32(0)         // split
	f.word(0)        // start_pfn
	f.word(l.maxPfn) // end_pfn
	f.u64(uint64(l.infoAt))
	f.word(uint64(l.infoSize))
	f.u64(uint64(l.notesAt))
	f.word(uint64(len(l.notes)))
	f.u64(0) // eraseinfo
	f.word(0)
	f.u64(0)
	f.u64(l.maxPfn)
	f.u64(l.maxPfn)
	return wr.w.put(f.b, int64(wr.page))
}

// uname gives the names of the system, as far as the source knows them.
func (wr *writing) uname() [6]string {
	m := &wr.c.Meta
	u := m.Uname
	if u[4] == "" {
		u[4] = machineName(m.Machine)
	}
	if u[2] == "" {
		for line := range bytes.Lines(m.VMCoreInfo) {
			if v, ok := bytes.CutPrefix(line, []byte("OSRELEASE=")); ok {
				u[2] = string(bytes.TrimSpace(v))
				break
			}
		}
	}
	if u[0] == "" && u[2] != "" {
		u[0] = "Linux"
	}
	return u
}
