// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"debug/elf"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// Root is page tables that the registers of a processor lead to.
type Root struct {
	Format *paging.Format
	Table  remora.Addr // physical address of the top one
	Bits   int         // of an address
	From   string      // which register of which processor
}

// Bits of registers.
const (
	cr0Paging    = 1 << 31
	arm64MMU     = 1       // SCTLR_EL1.M
	tcrDS        = 1 << 59 // descriptors of LPA2
	ttbrASID     = 48      // the bits from here on are no address
	ttbrHighBits = 0x3c    // of an address of 52 bits, those from 48 on
)

// Roots gives the page tables of the kernel's half that the processor uses: on x86-64 what
// CR3 leads to, which under PTI may be what user mode has of it, and on arm64 what
// TTBR1_EL1 does. There are none where paging is off, or the registers do not tell.
func (c *CPU) Roots(m elf.Machine) []Root {
	switch m {
	case elf.EM_X86_64:
		return c.rootsX86()
	case elf.EM_AARCH64:
		return c.rootsARM64()
	}
	return nil
}

func (c *CPU) rootsX86() []Root {
	cr3, ok := c.Regs["cr3"]
	if cr0, known := c.Regs["cr0"]; !ok || cr3 == 0 || known && cr0&cr0Paging == 0 {
		return nil
	}
	levels := 4 + int(c.Regs["cr4"]/cr4LA57&1)
	format, err := paging.X86(paging.X86Options{Levels: levels})
	if err != nil {
		return nil
	}
	return []Root{{format, remora.Addr(cr3 & cr3Root), 12 + 9*levels, fmt.Sprintf("CR3 %s of %s", hex(cr3), c.Name)}}
}

// rootsARM64 reads TCR_EL1 for the form of the tables (Arm Architecture Reference Manual,
// D19.2.139): T1SZ, TG1 and DS.
func (c *CPU) rootsARM64() []Root {
	ttbr, ok := c.Regs["TTBR1_EL1"]
	tcr, known := c.Regs["TCR_EL1"]
	if sctlr, told := c.Regs["SCTLR_EL1"]; !ok || !known || told && sctlr&arm64MMU == 0 {
		return nil
	}
	shift, ok := map[uint64]int{1: 14, 2: 12, 3: 16}[tcr>>30&3]
	if !ok {
		return nil
	}
	bits := 64 - int(tcr>>16&63)
	format, err := paging.ARM64(paging.ARM64Options{PageShift: shift, VABits: bits, LPA2: shift != 16 && tcr&tcrDS != 0})
	if err != nil {
		return nil
	}
	table := ttbr & (1<<ttbrASID - 1)
	if bits == 52 {
		table = table&^ttbrHighBits | table&ttbrHighBits<<(ttbrASID-2)
	}
	return []Root{{format, remora.Addr(table &^ 1), bits, fmt.Sprintf("TTBR1_EL1 %s of %s", hex(ttbr), c.Name)}}
}
