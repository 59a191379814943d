// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kernel

import (
	"bytes"
	"os"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/vmcore"
)

// TestRealSwapFile reads what the witness had swapped out with a copy of the swap area: in
// its right order, in which memory comes first, and as if memory had nothing of it.
func TestRealSwapFile(t *testing.T) {
	for _, m := range vmlab.Machines() {
		t.Run(m.String(), func(t *testing.T) { testSwapFile(t, vmlab.Open(t, m)) })
	}
}

func testSwapFile(t *testing.T, lab *vmlab.Lab) {
	img, err := vmcore.Open(lab.Dump(vmlab.ELF), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	h := &Hints{Machine: img.Meta().Machine}
	if text := img.Meta().VMCoreInfo; text != nil {
		h.VMCoreInfo = ParseVMCoreInfo(text)
	}
	for _, c := range img.Meta().CPUs {
		h.CPUs = append(h.CPUs, CPU{Name: "CPU", Index: c.Index, Regs: c.Regs})
	}
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
		if _, blind := k.swap(t.Context()); blind != nil && lab.Machine.Kernel == vmlab.ARM64v6_1 { // it lists no data
			t.Logf("not possible: %v", err)
			return
		}
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
	forgetful(t, p)
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

// forgetful has the process believe that nothing is in the swap cache: what would tell is
// looked for in the kernel's page of zeros.
func forgetful(t *testing.T, p *Process) {
	known, err := p.k.swap(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	empty, err := p.k.symbol(t.Context(), "empty_zero_page")
	if err != nil {
		t.Fatal(err)
	}
	twin := *known
	twin.f.sizeofSpace, twin.f.sizeofCluster, twin.f.zeroBits = 0, 0, field{}
	for i := range twin.areas {
		if a := &twin.areas[i]; a.used {
			a.spaces, a.cluster, a.mapped = empty, empty, true
		}
	}
	p.pager.swap.Store(&twin)
}
