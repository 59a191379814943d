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
	VMCoreInfo *VMCoreInfo // nil: there is none
	Machine    elf.Machine // EM_NONE: not known
	CPUs       []CPU
	PhysBase   []Value // where an x86-64 kernel may have been loaded
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

// Found is where the page tables of a kernel are, and how that was found out.
type Found struct {
	Format *paging.Format
	Root   remora.Addr // physical
	How    string
	// ImageBase is the physical address of the kernel's image less its virtual one.
	// It has one when Image is set.
	Image     bool
	ImageBase uint64
}

// TablesError says that no page tables of a kernel were found. It Is
// remora.ErrNoTable.
type TablesError struct {
	Tried []string // each with why it was not that
}

func (e *TablesError) Error() string {
	if len(e.Tried) == 0 {
		return "the page tables of the kernel were not found: there is nothing that tells where to look"
	}
	return "the page tables of the kernel were not found; tried: " + strings.Join(e.Tried, "; ")
}

// Unwrap gives the cause of a read that needs the tables.
func (e *TablesError) Unwrap() error { return remora.ErrNoTable }

// Machine says what machine the kernel runs on: as the hints have it, or by the keys that
// only one kind of kernel writes.
func (h *Hints) machine() elf.Machine {
	if h.Machine != elf.EM_NONE || h.VMCoreInfo == nil {
		return h.Machine
	}
	for _, k := range []struct {
		number  string
		machine elf.Machine
	}{{"phys_base", elf.EM_X86_64}, {"kimage_voffset", elf.EM_AARCH64}, {"va_kernel_pa_offset", elf.EM_RISCV}} {
		if _, ok := h.VMCoreInfo.Number(k.number); ok {
			return k.machine
		}
	}
	for _, c := range h.CPUs {
		if _, ok := c.Regs["cr3"]; ok {
			return elf.EM_X86_64
		}
	}
	return elf.EM_NONE
}

// Version reads the beginning of OSRELEASE: "6.1.0-rc1" is 6.1. It is the zero Version
// where there is none.
func (v *VMCoreInfo) Version() paging.Version {
	major, rest, _ := strings.Cut(v.Release(), ".")
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
