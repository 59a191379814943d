// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"debug/elf"
	"fmt"
	"math/rand/v2"
	"strings"
)

// Guest is a small machine that looks like one that runs Linux, as far as page
// tables and VMCOREINFO go: a kernel image with its page tables in it, the direct
// map, and one process. Its pages hold noise, so that no two are alike.
type Guest struct {
	Mem    *Physical
	Kernel *Tables // the kernel's tables; their root is swapper_pg_dir
	User   *Tables // the process's; the kernel's half is in them too
	Maps   []Mapped
	State  QEMUState // of a CPU in the process, on x86-64
	Banner string    // linux_banner, at _stext

	RAM        uint64 // physical address of the first byte of RAM
	ImageVirt  uint64 // where the kernel is
	ImagePhys  uint64
	DirectVirt uint64 // where the direct map has RAM
	NoneVirt   uint64 // a page that the process may not touch
	NonePhys   uint64
	SwapVirt   uint64 // a page that is in swap area 2, the 0x345th there

	info []string
}

// Mapped is a run of addresses that are mapped.
type Mapped struct {
	Virt, Phys, Size uint64
	User             bool // in the User tables only
}

// The shape of a Guest, in pages.
const (
	guestPages  = 512 // of RAM
	guestImage  = 32  // from here the kernel image
	guestInfo   = 40  // the note of VMCOREINFO
	guestTables = 48  // from here the kernel's tables, which belong to the image
	guestTop    = 80  // from here the process's tables
	guestEnd    = 96  // behind the image
	guestUser   = 128 // from here the process
	guestNoise  = 144 // from here zeros
)

// NewGuest makes a guest. The same seed gives the same one.
func NewGuest(seed uint64, mode TableMode) *Guest {
	page := uint64(1) << mode.PageShift
	g := &Guest{Mem: &Physical{PageSize: int(page), Pages: make(map[uint64]Page)}}
	switch mode.Arch {
	case "arm64":
		g.RAM = 0x40000000
	case "riscv64":
		g.RAM = 0x80000000
	}
	rng := rand.New(rand.NewPCG(seed, 3))
	for pfn := g.RAM / page; pfn < g.RAM/page+guestPages; pfn++ {
		g.Mem.Pages[pfn] = Page{}
		if pfn < g.RAM/page+guestNoise {
			b := make([]byte, page)
			fillNoise(rng, b)
			g.Mem.Pages[pfn] = Page{Data: b}
		}
	}
	g.ImagePhys = g.RAM + guestImage*page
	g.Banner = fmt.Sprintf("Linux version 6.12.0-test (%s)\n\x00", mode)
	g.Mem.Write(g.ImagePhys, []byte(g.Banner))
	g.place(mode)
	g.Kernel = NewTables(g.Mem, mode, g.RAM+guestTables*page)
	g.mapKernel(mode, page)
	g.User = NewTables(g.Mem, mode, g.RAM+guestTop*page)
	g.mapKernelInUser(mode)
	g.mapUser(mode, page)
	g.State = QEMUState{RIP: 0x401000, CR: [5]uint64{0x80050033, 0, 0x7fff0000, g.User.Root, 0x20}}
	if mode.Levels == 5 {
		g.State.CR[4] |= 1 << 12 // LA57
	}
	g.describe(mode)
	note := Core{Notes: []Note{VMCoreInfoNote(g.Info())}}
	g.Mem.Write(g.RAM+guestInfo*page, note.NoteBytes())
	return g
}

// place chooses the addresses of the kernel.
func (g *Guest) place(mode TableMode) {
	switch mode.Arch {
	case "x86-64":
		g.ImageVirt, g.DirectVirt = 0xffffffff81000000+0x1c000000, 0xffff888000000000
		if mode.Levels == 5 {
			g.DirectVirt = 0xff11000000000000
		}
	case "riscv64":
		g.ImageVirt, g.DirectVirt = 0xffffffff80000000+0x2000000, ^uint64(0)<<(mode.VABits-2)
	default:
		g.ImageVirt, g.DirectVirt = ^uint64(0)<<(mode.VABits-2), ^uint64(0)<<mode.VABits
	}
}

func (g *Guest) mapKernel(mode TableMode, page uint64) {
	for i := uint64(0); i < guestEnd-guestImage; i++ {
		g.Kernel.Map(g.ImageVirt+i*page, g.ImagePhys+i*page, page)
	}
	g.Maps = append(g.Maps, Mapped{Virt: g.ImageVirt, Phys: g.ImagePhys, Size: (guestEnd - guestImage) * page})
	// The direct map is of the largest leaves that do not go beyond RAM.
	leaf := page
	for _, size := range mode.LeafSizes() {
		if size <= guestPages*page {
			leaf = size
		}
	}
	for at := uint64(0); at < guestPages*page; at += leaf {
		g.Kernel.Map(g.DirectVirt+at, g.RAM+at, leaf)
	}
	g.Maps = append(g.Maps, Mapped{Virt: g.DirectVirt, Phys: g.RAM, Size: guestPages * page})
}

// mapKernelInUser gives the process's tables the kernel's entries of the top level,
// where the machine has one root for both.
func (g *Guest) mapKernelInUser(mode TableMode) {
	if mode.Arch == "arm64" {
		return
	}
	for _, virt := range []uint64{g.ImageVirt, g.DirectVirt} {
		phys := g.Kernel.below(g.Kernel.EntryAt(virt, mode.Levels))
		g.User.Set(virt, mode.Levels, mode.Table(phys))
		g.User.made[mode.Table(phys)] = phys
	}
}

func (g *Guest) mapUser(mode TableMode, page uint64) {
	base := uint64(0x400000) &^ (page - 1)
	order := []uint64{3, 1, 4, 0, 2, 7, 6, 5} // pages are not where their neighbours are
	for i, n := range order {
		virt, phys := base+uint64(i)*page, g.RAM+(guestUser+n)*page
		g.User.Map(virt, phys, page)
		g.Maps = append(g.Maps, Mapped{Virt: virt, Phys: phys, Size: page, User: true})
	}
	g.NoneVirt, g.NonePhys = base+16*page, g.RAM+(guestUser+9)*page
	g.User.Set(g.NoneVirt, 1, mode.ProtNone(g.NonePhys))
	g.SwapVirt = base + 17*page
	g.User.Set(g.SwapVirt, 1, mode.Swapped(2, 0x345))
}

// describe writes the lines of VMCOREINFO that the machine's kernels write.
func (g *Guest) describe(mode TableMode) {
	root := g.Kernel.Root - g.ImagePhys + g.ImageVirt
	hex := func(v uint64) string { return fmt.Sprintf("%x", v) }
	number := func(v uint64) string { return fmt.Sprintf("0x%x", v) }
	g.info = []string{
		"OSRELEASE", "6.12.0-test",
		"BUILD-ID", strings.Repeat("5a", 20),
		"PAGESIZE", fmt.Sprint(1 << mode.PageShift),
		"SYMBOL(_stext)", hex(g.ImageVirt),
		"SYMBOL(swapper_pg_dir)", hex(root),
	}
	switch mode.Arch {
	case "x86-64":
		g.info = append(g.info,
			"NUMBER(phys_base)", fmt.Sprint(int64(g.ImagePhys-(g.ImageVirt-0xffffffff80000000))),
			"KERNELOFFSET", hex(g.ImageVirt-0xffffffff81000000),
			"NUMBER(KERNEL_IMAGE_SIZE)", fmt.Sprint(1<<30),
			"NUMBER(pgtable_l5_enabled)", fmt.Sprint(mode.Levels-4),
			"NUMBER(sme_mask)", "0")
	case "arm64":
		g.info = append(g.info,
			"NUMBER(VA_BITS)", fmt.Sprint(mode.VABits),
			"NUMBER(TCR_EL1_T1SZ)", number(64-uint64(mode.VABits)),
			"NUMBER(kimage_voffset)", number(g.ImageVirt-g.ImagePhys),
			"NUMBER(PHYS_OFFSET)", number(g.RAM),
			"KERNELOFFSET", hex(0))
	default:
		g.info = append(g.info,
			"NUMBER(VA_BITS)", fmt.Sprint(mode.VABits),
			"NUMBER(PAGE_OFFSET)", number(g.DirectVirt),
			"NUMBER(phys_ram_base)", number(g.RAM),
			"NUMBER(va_kernel_pa_offset)", number(g.ImageVirt-g.ImagePhys),
			"NUMBER(KERNEL_LINK_ADDR)", number(0xffffffff80000000),
			"KERNELOFFSET", hex(g.ImageVirt-0xffffffff80000000))
	}
}

// VMCore gives an ELF image of the guest, with VMCOREINFO and, on x86-64, QEMU's
// note of the CPU.
func (g *Guest) VMCore() *VMCore {
	v := &VMCore{Mem: g.Mem, Notes: []Note{VMCoreInfoNote(g.Info())}}
	switch g.Kernel.Mode.Arch {
	case "x86-64":
		v.Machine, v.Notes = elf.EM_X86_64, append(v.Notes, g.State.Note())
	case "arm64":
		v.Machine = elf.EM_AARCH64
	default:
		v.Machine = elf.EM_RISCV
	}
	return v
}

// Kdump gives a kdump-compressed image of the guest.
func (g *Guest) Kdump() *Kdump {
	k := NewKdump(g.Mem)
	k.VMCoreInfo, k.Compress = g.Info(), Zlib
	k.Utsname[4] = map[string]string{"x86-64": "x86_64", "arm64": "aarch64", "riscv64": "riscv64"}[g.Kernel.Mode.Arch]
	return k
}

// Info gives VMCOREINFO, with further pairs of key and value at its end.
func (g *Guest) Info(more ...string) []byte {
	return VMCoreInfo(append(g.info[:len(g.info):len(g.info)], more...)...)
}
