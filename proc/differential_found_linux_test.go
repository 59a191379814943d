// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/testneed"
)

// What the differential test has found, one test each.

// The kernel leaves the buffer for a name alone where a mapping has none: the name of
// the mapping that was asked about before must not count.
func TestMemoryWithoutNameIsNoDevice(t *testing.T) {
	s := specimentest.Start(t, nil)
	r, err := s.Map(specimen.Untouched, 1)
	if err != nil {
		t.Fatal(err)
	}
	device, err := diffDeviceMemory(s.Pid())
	if err != nil {
		t.Fatal(err)
	}
	if len(device) == 0 {
		testneed.Lacks(t, "this kernel maps no device memory into processes")
	}
	for _, old := range []bool{false, true} {
		p := openProcess(t, s.Pid(), nil)
		if old { // the map is text, as before Linux 6.11
			older(p)
		}
		segs := []remora.Seg{{Addr: device[0].Start, Buf: make([]byte, 1)}, {Addr: r.Start, Buf: make([]byte, 1)}}
		_, _ = p.Memory().Transfer(t.Context(), remora.Resident, segs)
		if segs[0].Err != remora.ErrDevice || segs[1].Err != remora.ErrNotPresent {
			t.Errorf("older kernel: %v: device: %v, untouched: %v", old, segs[0].Err, segs[1].Err)
		}
	}
}

// The kernel makes a stack grow for a forced access below it, as for one of its own
// process (R68): a hole would be zeros, and no hole from then on.
func TestForceDoesNotGrowTheStack(t *testing.T) {
	s := specimentest.Start(t, nil)
	all, err := s.Layout(specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: specimen.NoAccess, Pages: 1},
		specimen.Piece{Kind: specimen.Hole, Pages: 3}, specimen.Piece{Kind: specimen.GrowsDown, Pages: 1})
	if err != nil {
		t.Fatal(err)
	}
	below, hole := all[0], all[2]
	for _, d := range doors() {
		for _, op := range []remora.Op{remora.Read | remora.Force, remora.Write | remora.Force} {
			p := openProcess(t, s.Pid(), &Options{Door: d, Write: true})
			segs := []remora.Seg{{Addr: hole.Last() - 7, Buf: make([]byte, 8)}, {Addr: below.Start, Buf: make([]byte, hole.Last()+8-below.Start)}}
			_, _ = p.Memory().Transfer(t.Context(), op, segs)
			if segs[0].N != 0 || segs[0].Err != remora.ErrUnmapped {
				t.Errorf("%v by %v in the hole: %d bytes, %v", op, d, segs[0].N, segs[0].Err)
			}
			if want := int(hole.Start - below.Start); segs[1].N != want || segs[1].Err != remora.ErrUnmapped {
				t.Errorf("%v by %v up to the hole: %d bytes, %v, want %d", op, d, segs[1].N, segs[1].Err, want)
			}
		}
	}
}

// diffDeviceMemory finds what the kernel maps of devices into every process.
func diffDeviceMemory(pid int) ([]remora.Range, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []remora.Range
	text, err := io.ReadAll(f)
	for line := range strings.Lines(string(text)) {
		var first, end remora.Addr
		if !strings.Contains(line, "[vvar") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &first, &end); err != nil {
			return nil, err
		}
		found = append(found, remora.Between(first, end))
	}
	return found, err
}
