// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"debug/elf"
	"fmt"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// Hints are what is known of a machine besides its memory. Nothing in them is believed
// without a check.
type Hints struct {
	VMCoreInfo *VMCoreInfo // nil: none is known
	InfoFrom   string      // where it is from: "the note of the image"
	Given      bool        // the user gave it: no other is looked for
	Machine    elf.Machine // EM_NONE: not known
	CPUs       []CPU
	PhysBase   []Value // where an x86-64 kernel may have been loaded

	// Files with the symbols of the kernel, read when symbols are first asked for instead
	// of those in its memory. The first one that is named counts, if it is of this kernel.
	VMLinux   string // an ELF file
	SystemMap string
	Kallsyms  string // the text of /proc/kallsyms
}

// CPU is a processor: its registers by the names that gdb uses, and "cr0" to "cr4".
type CPU struct {
	Name  string // for messages: "CPU 0"
	Regs  map[string]uint64
	Index int // among the registers in the image
}

// Value is a number, and where it comes from.
type Value struct {
	N    uint64
	From string // "the sub header"
}

// Found is where a kernel is, and how that was found out.
type Found struct {
	Machine elf.Machine
	Format  *paging.Format
	Root    remora.Addr // physical
	How     string      // what led there
	Checked []string    // what was looked at, and is as it should be

	// ImageBase is the physical address of the kernel's image less its virtual one.
	// It has one when Image is set.
	Image     bool
	ImageBase uint64

	// Linear says that there are no page tables: Format is nil, and addresses are those of
	// the kernel's image, and of the direct map where that is known, by their formulas.
	Linear bool

	Info     *VMCoreInfo // nil: none was found
	InfoFrom string
	Release  string // of the kernel; empty if it is not known

	kallsyms *kallsyms // nil: they were not looked for
	symbols  map[string]uint64
}

// symbol gives the virtual address of a symbol that was used.
func (g *Found) symbol(name string) (remora.Addr, bool) {
	if a, ok := g.Info.Symbol(name); ok {
		return a, ok
	}
	a, ok := g.symbols[name]
	return remora.Addr(a), ok
}

// TablesError says that no page tables of a kernel were found. It Is
// remora.ErrNoTable.
type TablesError struct {
	Tried []string // each with why it was not that
}

func (e *TablesError) Error() string {
	const most = 40
	tried, more := e.Tried, ""
	if n := len(tried); n == 0 {
		return "the page tables of the kernel were not found: there is nothing that tells where to look"
	} else if n > most {
		tried, more = tried[:most], fmt.Sprintf("; and %d more", n-most)
	}
	return "the page tables of the kernel were not found; tried: " + strings.Join(tried, "; ") + more
}

// Unwrap gives the cause of a read that needs the tables.
func (e *TablesError) Unwrap() error { return remora.ErrNoTable }

// machine says what machine a kernel runs on: as the hints have it, or by the keys that
// only one kind of kernel writes.
func (h *Hints) machine(info *VMCoreInfo) elf.Machine {
	if h.Machine != elf.EM_NONE {
		return h.Machine
	}
	for _, k := range []struct {
		number  string
		machine elf.Machine
	}{{"phys_base", elf.EM_X86_64}, {"kimage_voffset", elf.EM_AARCH64}, {"va_kernel_pa_offset", elf.EM_RISCV}} {
		if _, ok := info.Number(k.number); ok {
			return k.machine
		}
	}
	for _, c := range h.CPUs {
		if _, ok := c.Regs["cr3"]; ok {
			return elf.EM_X86_64
		}
		if _, ok := c.Regs["TTBR1_EL1"]; ok {
			return elf.EM_AARCH64
		}
	}
	return elf.EM_NONE
}

// Version reads the beginning of OSRELEASE: "6.1.0-rc1" is 6.1. It is the zero Version
// where there is none.
func (v *VMCoreInfo) Version() paging.Version { return versionOf(v.Release()) }

// versionOf reads the beginning of a release.
func versionOf(release string) paging.Version {
	major, rest, _ := strings.Cut(release, ".")
	end := strings.IndexFunc(rest, func(c rune) bool { return c < '0' || c > '9' })
	if end < 0 {
		end = len(rest)
	}
	a, err := strconv.Atoi(major)
	b, bad := strconv.Atoi(rest[:end])
	if err != nil || bad != nil {
		return paging.Version{}
	}
	return paging.Version{Major: a, Minor: b}
}

// hex writes an address that may be a negative number.
func hex(n uint64) string { return fmt.Sprintf("%#x", n) }
