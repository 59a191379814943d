// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"strings"
)

// What is between these lines of README.md is made of the results.
const (
	readmeBegin = "<!-- from docs/benchmarks.json: -->\n"
	readmeEnd   = "<!-- end -->\n"
)

// pick is a row that README.md shows, beside one of its sides.
type pick struct{ group, row, side string }

// picks are the rows that say the most.
func picks() []pick {
	const (
		image = "kernel image"
		raw   = "process_vm_readv in C"
		each  = "process_vm_readv in C, one call a range"
	)
	return []pick{
		{livePart, "read 8 B", raw},
		{livePart, "read 16 MiB", raw},
		{livePart, "read 256 MiB, two threads", raw},
		{livePart, "1,024 ranges, 1 a page", each},
		{livePart, "1,024 ranges, 16 a page, sorted", each},
		{image, "first byte of the kernel, by crash, zlib", "crash"},
		{image, "ps, whole processes, zlib", "drgn"},
		{image, "sequential, 1 MiB each, two threads, zlib", "libkdumpfile"},
		{image, "random 8 bytes, one a call, ELF", "libkdumpfile"},
		{"own cost", "start", "/bin/true"},
	}
}

// Readme gives README.md with the rows that it shows made anew, and tells which of them
// there are not.
func Readme(f *File, readme string) (page string, missing []string, err error) {
	before, rest, ok := strings.Cut(readme, readmeBegin)
	_, after, end := strings.Cut(rest, readmeEnd)
	if !ok || !end {
		return "", nil, fmt.Errorf("there is no place for rows: no line %q and %q", readmeBegin, readmeEnd)
	}
	t := newTable("", "beside", ">Remora needs", ">of its time")
	for _, p := range picks() {
		r := f.Row(p.group, p.row)
		if r == nil || r.Side(p.side) == nil {
			missing = append(missing, p.group+": "+p.row+" beside "+p.side)
			continue
		}
		s := r.Side(p.side)
		t.add(cell(p.group+": "+p.row), cell(s.Name), ratio(s.Ratio), duration(s.Wall.Median))
	}
	return before + readmeBegin + "\n" + t.String() + readmeEnd + after, missing, nil
}
