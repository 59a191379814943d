// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"slices"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// What a search of memory tries at most: a damaged image may hold any number of things
// that look like something.
const (
	maxNotes  = 64
	maxHeads  = 1 << 12 // of notes, whatever follows
	maxDigits = 1 << 16
	maxTables = 16 // tables of tokens with an index that fits
)

// find finds a kernel in physical memory: by VMCOREINFO if it is known; by the registers of
// an x86-64 processor; by what a search of all memory finds. Nil options are tables with a
// cache of their own. Where nothing stands up to the checks the error is a *TablesError; a
// context's error comes as it is.
func find(ctx context.Context, phys remora.Space, h *Hints, use *paging.Options) (*Found, error) {
	if use == nil {
		use = &paging.Options{Cache: paging.NewCache(phys, nil)}
	}
	f := &finder{ctx: ctx, phys: phys, h: h, use: use}
	all := []told{{h.VMCoreInfo, h.InfoFrom}}
	switch m := h.machine(h.VMCoreInfo); m {
	case elf.EM_X86_64, elf.EM_AARCH64, elf.EM_RISCV, elf.EM_NONE:
		f.byInfo(h.VMCoreInfo, h.InfoFrom)
		weighed := f.found
		if h.VMCoreInfo == nil && weighed != nil {
			f.found = nil
			f.inImage(weighed)
		}
		if !f.over() && !h.Given {
			all = append(all, f.bySearch()...)
		}
		if !f.over() {
			f.found = weighed
		}
	default:
		f.no("page tables of %v are not known", m)
	}
	for _, t := range all {
		if !f.over() {
			f.byFormula(t)
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.found == nil {
		return nil, &TablesError{f.tried}
	}
	return f.found, nil
}

// told is VMCOREINFO, and where it is from.
type told struct {
	info *VMCoreInfo
	from string
}

// byInfo follows what VMCOREINFO says; nil says nothing.
func (f *finder) byInfo(info *VMCoreInfo, from string) {
	f.info, f.from = info, from
	machine := f.h.machine(info)
	switch machine {
	case elf.EM_X86_64:
		f.x86()
	case elf.EM_AARCH64:
		f.arm64()
	case elf.EM_RISCV:
		f.riscv()
	default:
		f.no("VMCOREINFO or registers: there are none that tell of a machine")
	}
	if f.found != nil {
		f.found.Machine, f.found.Info, f.found.InfoFrom, f.found.Release = machine, info, from, info.Release()
	}
	f.info, f.from = nil, ""
}

// bySearch looks at all memory that is saved: for the note of VMCOREINFO first, which ends
// the search when it stands up to the checks, then for kallsyms. It gives the notes that
// did not.
func (f *finder) bySearch() (all []told) {
	var others []remora.Addr
	heads, notes := 0, 0
	size, err := sweep(f.ctx, f.phys, remora.Range{Size: 1 << 63}, traces, func(t trace) bool {
		if !t.note {
			if len(others) < maxDigits {
				others = append(others, t.at)
			}
			return true
		}
		if heads++; heads > maxHeads || notes >= maxNotes {
			return f.ctx.Err() == nil
		}
		info := readNote(f.ctx, f.phys, t.at)
		if info == nil {
			return f.ctx.Err() == nil
		}
		notes++
		if f.h.VMCoreInfo != nil && slices.Equal(info.Lines, f.h.VMCoreInfo.Lines) {
			return true // it was tried
		}
		from := fmt.Sprintf("the note at %v, which was searched for", t.at)
		f.byInfo(info, from)
		if f.found == nil {
			f.no("that was by the VMCOREINFO of %s at %v", info.Release(), t.at)
			all = append(all, told{info, from})
		}
		return !f.over()
	})
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		f.no("a search of memory: it has no list of what is there")
	case err != nil:
		f.no("a search of memory: %v", err)
	}
	if f.over() || err != nil {
		return all
	}
	f.no("a search of %d MiB of memory: %d notes of VMCOREINFO, %d places with the digits of kallsyms", size>>20, notes, len(others))
	valid := 0
	for _, at := range others {
		if f.over() || valid >= maxTables {
			break
		}
		k, err := findKallsyms(f.ctx, f.phys, at)
		if err == nil {
			valid++
			f.byKallsyms(k)
		} else if !errors.Is(err, errNoTokens) {
			valid++
			f.no("kallsyms with its digits at %v: %v", at, err)
		}
	}
	return all
}
