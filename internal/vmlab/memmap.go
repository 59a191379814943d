// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"fmt"
	"io"
	"slices"

	"github.com/remora-go/remora/internal/qmp"
)

// Segment is a range of physical memory that is RAM.
type Segment struct {
	Start, End uint64 // physical; End is the first after it
	Offset     uint64 // in the file of the guest's memory
}

// Memory gives the ranges that the file of the guest's memory has bytes of, in the order of
// the file. A PC's memory below 1 MiB lies in the file as it does in the machine, also
// where the machine has ROM before it.
func (a *About) Memory() []Segment {
	all := slices.Clone(a.RAM)
	for i := 1; i < len(all); i++ {
		if s := &all[i]; s.Start <= 1<<20 && s.Offset == s.Start {
			s.Start, s.Offset = all[i-1].End, all[i-1].End
		}
	}
	return all
}

// segments gives the ranges of the block "ram" out of "info mtree -f".
func segments(text string) ([]Segment, error) {
	sections, err := qmp.ParseMemory(text)
	if err != nil {
		return nil, err
	}
	var all []Segment
	for _, s := range sections {
		if s.Block == "ram" && s.Kind == "ram" {
			all = append(all, Segment{s.First, s.Last + 1, s.Offset})
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("info mtree -f: no RAM in %q", text)
	}
	return all, nil
}

// physical reads a guest's memory by physical address from its file.
type physical struct {
	file io.ReaderAt
	ram  []Segment
}

// ReadAt reads from one segment only.
func (p physical) ReadAt(b []byte, at int64) (int, error) {
	for _, s := range p.ram {
		if uint64(at) >= s.Start && uint64(at)+uint64(len(b)) <= s.End {
			return p.file.ReadAt(b, int64(uint64(at)-s.Start+s.Offset))
		}
	}
	return 0, fmt.Errorf("no RAM at 0x%x", at)
}
