// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/internal/xfer"
)

// TestRealSwapFile reads what the witness had swapped out with a copy of the swap area: in
// its right order, in which memory comes first, and as if memory had nothing of it.
func TestRealSwapFile(t *testing.T) {
	for _, m := range vmlab.Machines() {
		t.Run(m.String(), func(t *testing.T) { testSwapFile(t, vmlab.Open(t, m)) })
	}
}

func testSwapFile(t *testing.T, lab *vmlab.Lab) {
	img := openRAM(t, lab)
	var text strings.Builder
	for key, value := range lab.Truth().VMCOREINFO() {
		text.WriteString(key + "=" + value + "\n")
	}
	h := &Hints{VMCoreInfo: ParseVMCoreInfo([]byte(text.String()))}
	k := New(img, "lab", h)
	defer k.Close()
	f, err := os.Open(lab.Dump(vmlab.Swap))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	file := SwapFile{Type: -1, R: f, Size: st.Size(), Name: "swap"}
	main := lab.Truth().Witness(witness.RoleMain)
	g, _ := main.Find(witness.Swapped)
	want, got := make([]byte, g.End-g.Start), make([]byte, g.End-g.Start)
	witness.Fill(want, g.Seed)
	p, err := k.Process(t.Context(), main.Pid, &ProcessOptions{Swaps: []SwapFile{file}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Memory().ReadAt(t.Context(), got, remora.Addr(g.Start)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%v; equal: %v", err, bytes.Equal(got, want))
	}
	areas, err := k.SwapAreas(t.Context())
	if err != nil || len(areas) != 1 || areas[0].Path != "/dev/vdb" || areas[0].InRAM {
		t.Fatalf("%v, %v", areas, err)
	}
	// With the wrong area, or another file, it is not opened.
	other := file
	other.Type = 1
	if _, err := k.Process(t.Context(), main.Pid, &ProcessOptions{Swaps: []SwapFile{other}}); err == nil {
		t.Error("a file for an area that is not there")
	}
	zero, _ := main.Find(witness.Zero)
	forgetful(t, p, remora.Addr(zero.Start))
	stale, zeros, right := 0, 0, 0
	for at := g.Start; at < g.End; at += witnessPage {
		e, place := p.pager.page(t.Context(), remora.Addr(at))
		page := want[at-g.Start:][:witnessPage]
		if place.where == inSwapZero {
			zeros++
		}
		if e.Err != nil {
			t.Fatalf("0x%x: %v", at, e.Err)
		}
		if _, err := p.Memory().ReadAt(t.Context(), got[:witnessPage], remora.Addr(at)); err != nil {
			t.Fatal(err)
		}
		switch {
		case bytes.Equal(got[:witnessPage], page):
			right++
		case place.where == inArea:
			stale++
		}
	}
	t.Logf("of the swap area %d pages are right, %d of zeros among them, and %d are not", right, zeros, stale)
	if right < 200 {
		t.Errorf("only %d pages are right in the swap area", right)
	}
}

const witnessPage = 4096

// guestRAM is the memory that a guest had, as a Space.
type guestRAM struct {
	file *os.File
	runs []vmlab.Segment
}

func openRAM(t *testing.T, lab *vmlab.Lab) *guestRAM {
	f, err := os.Open(lab.Dump(vmlab.RAM))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &guestRAM{f, lab.About.RAM}
}

func (r *guestRAM) Info() remora.Info {
	return remora.Info{Name: "ram", Ops: remora.StopAtFault | remora.Force | remora.Resident, PtrSize: 8, Granule: 4096, Last: remora.MaxAddr}
}

func (r *guestRAM) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	return xfer.Each(ctx, op, segs, r)
}

// Move reads memory.
func (r *guestRAM) Move(_ context.Context, _ remora.Op, a remora.Addr, buf []byte) (int, error) {
	for _, s := range r.runs {
		if uint64(a) >= s.Start && uint64(a) < s.End {
			return r.file.ReadAt(buf[:min(uint64(len(buf)), s.End-uint64(a))], int64(s.Offset+uint64(a)-s.Start))
		}
	}
	return 0, remora.ErrHole
}

// forgetful has the process believe that nothing is in the swap cache: what would tell is
// looked for in the kernel's page of zeros, which the process has at zero.
func forgetful(t *testing.T, p *Process, zero remora.Addr) {
	known, err := p.k.swap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	layout, err := p.k.Layout(t.Context())
	e := p.Translate(t.Context(), zero)
	if err != nil || !layout.Direct || e.Err != nil {
		t.Fatalf("%+v, %v, %v", layout, err, e.Err)
	}
	empty := layout.DirectBase + e.Phys + (zero - e.Virt)
	twin := *known
	twin.f.sizeofSpace, twin.f.sizeofCluster, twin.f.zeroBits = 0, 0, field{}
	for i := range twin.areas {
		if a := &twin.areas[i]; a.used {
			a.spaces, a.cluster, a.mapped = empty, empty, true
		}
	}
	answered(&p.k.processAnswers.swap, &twin)
}
