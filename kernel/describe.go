// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"strings"

	"github.com/remora-go/remora"
)

var _ remora.Describer = (*Kernel)(nil)

// Describe says where the kernel is, how that was found out and checked, what is not to be
// had of it, and what the machine did.
func (k *Kernel) Describe(ctx context.Context) ([]remora.Fact, error) {
	found, why := k.Tables(ctx)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if bad, ok := errors.AsType[*TablesError](why); ok {
		facts := bad.facts()
		if v := k.VMCoreInfo(); v != nil {
			facts = append(infoFacts(v, k.hints.InfoFrom), facts...)
		}
		return facts, nil
	}
	if why != nil {
		return nil, why
	}
	facts := found.facts()
	if found.Linear {
		facts = append(facts, remora.Fact{Key: "linear", Value: k.linearText(ctx)})
	}
	var lacks []string
	if s, err := k.Symbols(ctx); err != nil {
		lacks = append(lacks, "symbols: "+err.Error())
	} else {
		facts = append(facts, remora.Fact{Key: "symbols", Value: s.How})
		if all, err := s.LookupOwn(ctx, "init_task"); err == nil && len(all) == 0 && strings.HasPrefix(s.How, "kallsyms") { // which every kernel has
			lacks = append(lacks, "symbols of data: the kernel keeps the names of functions alone (CONFIG_KALLSYMS_ALL=n)")
		}
	}
	if t, err := k.Types(ctx); err != nil {
		lacks = append(lacks, "types: "+err.Error())
	} else {
		facts = append(facts, remora.Fact{Key: "types", Value: "BTF " + t.How()})
	}
	for _, l := range lacks {
		facts = append(facts, remora.Fact{Key: "not available", Value: l})
	}
	return append(facts, k.machineFacts(ctx)...), ctx.Err()
}

// facts are what was tried, each in a line.
func (e *TablesError) facts() []remora.Fact {
	const most = 12
	all := []remora.Fact{{Key: "page tables", Value: "not found: the memory of the kernel cannot be read; physical memory can, with @phys"}}
	for i, s := range e.Tried {
		if i == most {
			all = append(all, remora.Fact{Key: "tried", Value: fmt.Sprintf("and %d more", len(e.Tried)-most)})
			break
		}
		all = append(all, remora.Fact{Key: "tried", Value: s})
	}
	return all
}

// infoFacts says where VMCOREINFO is from.
func infoFacts(v *VMCoreInfo, from string) []remora.Fact {
	return []remora.Fact{{Key: "VMCOREINFO", Value: fmt.Sprintf("%d lines, from %s", len(v.Lines), cmp.Or(from, "the image"))}}
}

// facts are those that the search gave.
func (g *Found) facts() (all []remora.Fact) {
	add := func(key, format string, args ...any) {
		all = append(all, remora.Fact{Key: key, Value: fmt.Sprintf(format, args...)})
	}
	if name, ok := map[elf.Machine]string{elf.EM_X86_64: "amd64", elf.EM_AARCH64: "arm64", elf.EM_RISCV: "riscv64"}[g.Machine]; ok {
		add("arch", "%s", name)
	}
	add("page size", "%d", g.Format.PageSize())
	if g.Info != nil {
		all = infoFacts(g.Info, g.InfoFrom)
	} else {
		add("VMCOREINFO", "none was found")
	}
	if slide, ok := g.slide(); ok {
		text := "the image is where it was linked to be"
		if slide != 0 {
			text = fmt.Sprintf("the image is moved by %#x", slide)
		}
		add("KASLR", "%s", text)
	}
	if g.Image {
		switch g.Machine {
		case elf.EM_X86_64:
			n := int64(g.ImageBase + x86Image)
			add("phys_base", "%d (%s)", n, signedHex(n))
		case elf.EM_AARCH64:
			add("kimage_voffset", "%#x", -g.ImageBase)
		case elf.EM_RISCV:
			add("va_kernel_pa_offset", "%#x", -g.ImageBase)
		}
	}
	lost := ""
	if g.Linear {
		lost = ", cannot be used: addresses are translated by formula"
	}
	add("page tables", "%v, the top one at %v%s", g.Format, g.Root, lost)
	add("found by", "%s", g.How)
	if len(g.Checked) > 0 {
		add("checked", "%s", strings.Join(g.Checked, "; "))
	}
	return all
}

// signedHex writes a number that may be negative.
func signedHex(n int64) string {
	if n < 0 {
		return fmt.Sprintf("-%#x", -uint64(n))
	}
	return fmt.Sprintf("%#x", n)
}

// x86Link is where the image of an x86-64 kernel is linked to be (LOAD_PHYSICAL_ADDR in the
// image's part of the address space, with CONFIG_PHYSICAL_START as it is everywhere).
const x86Link = x86Image + 0x1000000

// slide gives by how much the image is moved from where it was linked to be.
func (g *Found) slide() (uint64, bool) {
	if n, ok := g.Info.Value("KERNELOFFSET"); ok {
		return n, true
	}
	text, ok := g.symbols["_text"]
	return text - x86Link, ok && g.Machine == elf.EM_X86_64
}

// linearText says what is translated by formula.
func (k *Kernel) linearText(ctx context.Context) string {
	pieces := k.pieces(ctx)
	if len(pieces) == 0 {
		return "nothing"
	}
	image := pieces[len(pieces)-1] // the highest
	text := fmt.Sprintf("the kernel's image, %v-%v", image.Virt, image.Virt+remora.Addr(image.Size)-1)
	if len(pieces) > 1 {
		return text + fmt.Sprintf("; the direct map, address 0 at %v", pieces[0].Virt-pieces[0].Start)
	}
	return text + "; where the direct map is is not known"
}
