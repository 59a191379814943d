// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
)

// TestRealCrash holds the image that a kernel made after the crash of another one against
// the memory that the machine had.
func TestRealCrash(t *testing.T) {
	m := withRAM(t, vmlab.OpenCrash(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1}))
	var ram, reserved []remora.Range
	for line := range strings.Lines(string(m.Truth().File("proc/iomem"))) {
		var r remora.Range
		var last uint64
		if n, _ := fmt.Sscanf(strings.TrimSpace(line), "%x-%x", (*uint64)(&r.Start), &last); n != 2 {
			continue
		}
		r.Size = last - uint64(r.Start) + 1
		switch _, what, _ := strings.Cut(strings.TrimSpace(line), " : "); what {
		case "System RAM":
			ram = append(ram, r)
		case "Crash kernel":
			reserved = append(reserved, r)
		}
	}
	p := m.compare(t, m.image(t, vmlab.Vmcore))
	for i, why := range p {
		whole := remora.Range{Start: remora.Addr(i) * page, Size: page}
		has := i >= 0x100 && in(ram, whole) && !in(reserved, whole) // below 1 MiB, it is for the next kernel
		if has != (why == nil) || why != nil && why != remora.ErrHole {
			t.Fatalf("page 0x%x: %v; it is memory: %v", i, why, has)
		}
	}
	zero := m.zeros(t)
	small := m.compare(t, m.image(t, vmlab.MakedumpfileZlib31))
	testLeftOut(t, small, p, zero, excluded(t, m.Report(vmlab.MakedumpfileZlib31)))
	for _, f := range []vmlab.Format{vmlab.Vmcore, vmlab.MakedumpfileZlib31} {
		m.testSelf(t, f)
	}
	k, _ := m.kernel(t, vmlab.Vmcore)
	if at, ok := k.VMCoreInfo().Value("CRASHTIME"); !ok || at == 0 {
		t.Error("the kernel says no time of its crash")
	}
}

func in(list []remora.Range, r remora.Range) bool {
	for _, l := range list {
		if r.Intersect(l).Size == r.Size {
			return true
		}
	}
	return false
}

// testLeftOut holds the pages that a filter left out of an image against what
// makedumpfile says.
func testLeftOut(t *testing.T, small, whole pages, zero []bool, report map[string]int) {
	shared := 0
	for i, why := range small {
		if (whole[i] != nil) != (why == remora.ErrHole) || why != nil && why != remora.ErrHole && why != remora.ErrNotSaved {
			t.Fatalf("page 0x%x: %v, and in the whole image %v", i, why, whole[i])
		}
		if why == nil && zero[i] {
			shared++
		}
	}
	if n := small.count(remora.ErrNotSaved); n != report[kindAll]-report[kindZero] || shared != report[kindZero] {
		t.Errorf("%d pages are left out and %d are of zeros; makedumpfile says %v", n, shared, report)
	}
}
