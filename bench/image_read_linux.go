// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/remora-go/remora/bench/internal/measure"
)

// cacheMiB is what libkdumpfile keeps of inflated pages: 1,024 of them.
const cacheMiB = 4

// sequenceRows read physical memory in large pieces.
func (b *images) sequenceRows() []measure.Row {
	const size = stretches * stretch
	var rows []measure.Row
	for _, m := range b.all {
		one := measure.Row{
			Name: "sequential, 1 MiB each, " + m.name, Bytes: size, Guard: m == b.elf || m == b.zlib,
			Work: fmt.Sprintf("%d stretches of 8 MiB of physical memory are read by one thread, 1 MiB a call", stretches),
			Sides: []measure.Side{
				b.in("Image.Transfer", "seq %s %s 1", m.path, b.ranges),
				b.kdump("kdump_read"+m.on(), "seq %s %s 1", m.peers, b.ranges),
			},
		}
		if m == b.elf || m == b.zlib {
			one.Sides = append(one.Sides, b.python3("prog.read", "seq %s %s", m.path, b.ranges))
		}
		two := one
		two.Name, two.Guard, two.Wide = "sequential, 1 MiB each, two threads, "+m.name, false, true
		two.Work = fmt.Sprintf("%d stretches of 8 MiB of physical memory are read by two threads, 1 MiB a call", stretches)
		clones := b.kdump("kdump_read in two threads, one with a kdump_clone"+m.on(), "seq %s %s 2", m.peers, b.ranges)
		clones.Name = byClones
		two.Sides = []measure.Side{b.in("Image.Transfer in two goroutines", "seq %s %s 2", m.path, b.ranges), one.Sides[1], clones}
		b.bounds(m, &one, &two)
		rows = append(rows, one, two)
	}
	return rows
}

// bounds adds the limits of the machine and the goals of the rows that read by one thread and
// by two.
func (b *images) bounds(m *image, one, two *measure.Row) {
	switch m {
	case b.elf:
		copied := b.limit(byMemory, "memcpy", "copy %s %s", m.path, b.ranges)
		one.Sides = append(one.Sides, copied, b.limit(byFile, "pread", "pread %s %s", m.path, b.ranges))
		two.Sides = append(two.Sides, copied)
		one.Goals, two.Goals = goal(1, byKdump), goal(1, byKdump, byClones)
		one.Why = "Both copy out of a mapping of the file."
		two.Why = "One thread comes near to what the memory gives."
	case b.zlib:
		one.Sides = append(one.Sides,
			measure.Side{Name: byInflate, How: "zlib.Reader, Reset for each page", By: b.klauspost, Work: fmt.Sprintf("seq %s %s", m.path, b.ranges)},
			b.limit(byDeflate, "libdeflate_zlib_decompress", "inflate %s %s 1", m.path, b.ranges))
		one.Goals = goal(1/1.5, byInflate)
		two.Sides = append(two.Sides, b.limit(byDeflate2, "libdeflate_zlib_decompress in two threads", "inflate %s %s 2", m.path, b.ranges))
		two.Goals = goal(1/2.4, byKdump, byClones)
		one.Why = "Time goes into the inflating of pages, and an eighth of it into their checksums. libdeflate has vector instructions for both."
		two.Why = "Two threads inflate pages beside each other. libkdumpfile inflates under a lock."
	case b.flat:
		one.Why = m.why("The data of a page may lie in more than one record, and each page is looked for.")
		two.Why = one.Why
	case b.lzo:
		one.Why = "The library that unpacks lzo is in Go, without assembly."
		two.Why = one.Why
	case b.zstd:
		one.Why = "The library that unpacks zstd is in Go. Its frames are small, and each sets up tables of its own."
		two.Why = one.Why
	}
}

// wordRows read words at random places.
func (b *images) wordRows() []measure.Row {
	var rows []measure.Row
	for _, m := range b.all {
		for _, each := range []int{1, 1024} {
			r := measure.Row{
				Name: "random 8 bytes, one a call, " + m.name, Guard: m == b.elf,
				Work: fmt.Sprintf("%d words at random places in physical memory are read, one a call, with a cache of %d MiB", manyWords, cacheMiB),
				Sides: []measure.Side{
					b.in("Image.Transfer", "words %s %s %d %d", m.path, b.words, each, cacheMiB),
					b.kdump("kdump_read"+m.on(), "words %s %s 0", m.peers, b.words),
				},
				Why: "Nearly each word is in another page, which is inflated whole.",
			}
			if each > 1 {
				r.Name, r.Guard = "random 8 bytes, 1,024 a call, "+m.name, false // it waits for memory, the others compute
				r.Work = fmt.Sprintf("%d words at random places in physical memory are read, 1,024 a call where that can be, with a cache of %d MiB", manyWords, cacheMiB)
			}
			if m == b.elf {
				r.Sides = append(r.Sides, b.python3("prog.read_u64", "words %s %s", m.path, b.words), b.limit(byLoads, "a load", "load %s %s", m.path, b.words))
				r.Goals = goal(0.2, byKdump)
				r.Why = "What a word costs is the miss in the caches of the processor, and looking up where in the file it is."
			}
			rows = append(rows, r)
		}
	}
	return append(rows, measure.Row{
		Name: "random 8 bytes in 32 MiB, zlib", Work: fmt.Sprintf("%d words at random places in 32 MiB are read again and again, one a call, with a cache of 64 MiB", manyWords),
		Sides: []measure.Side{
			b.in("Image.Transfer", "words %s %s 1 64", b.zlib.path, b.hot),
			b.kdump("kdump_read with cache.size 16384", "words %s %s 16384", b.zlib.path, b.hot),
		},
		Why: "All pages are kept inflated.",
	})
}

// tableRows are about page tables, and how they are found.
func (b *images) tableRows() []measure.Row {
	var all string
	for _, r := range b.segments {
		all += fmt.Sprintf(" %#x+%d", uint64(r.Start), r.Size)
	}
	return []measure.Row{
		{
			Name: "translate, ELF", Work: fmt.Sprintf("%d addresses of the kernel are translated to physical ones, in random order", mappedPages),
			Sides: []measure.Side{b.in("Kernel.Translate", "translate %s %s", b.elf.path, b.kernel), b.kdump("addrxlat_fulladdr_conv", "translate %s %s", b.elf.path, b.kernel)},
			Why:   "Tables that were walked before are kept. libkdumpfile has formulas for most of these addresses.",
		},
		{
			Name: "open by registers", Work: "an image is opened, and the page tables are found by the registers of a processor, without VMCOREINFO",
			Sides: []measure.Side{b.in("vmcore.Open, kernel.New, Tables", "registers %s", b.elf.path)},
			Why:   "No peer of these opens an image so.",
		},
		{
			Name: "open by a search", Work: "raw memory is opened, and the page tables are found by what the kernel left in memory for those who look for it",
			Sides: []measure.Side{b.in("target.Open, Tables", "search %s%s", b.ram, all)},
			Why:   "Memory is looked through, page by page, until that is found. No peer of these opens an image so.",
		},
	}
}
