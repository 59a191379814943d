// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab_test

import (
	"context"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
)

// head reads the beginning of a file.
func head(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 4096)
	if _, err := io.ReadFull(f, b); err != nil {
		t.Fatal(err)
	}
	return b
}

// kind says what the beginning of an image is, as far as these tests care.
func kind(b []byte) string {
	le := binary.LittleEndian
	switch {
	case string(b[:16]) == "makedumpfile\x00\x00\x00\x00":
		return "flattened"
	case string(b[:8]) == "KDUMP   ":
		return fmt.Sprintf("kdump, status %#x", le.Uint32(b[424:]))
	case string(b[:4]) == elf.ELFMAG:
		return fmt.Sprintf("ELF, flags %#x", le.Uint32(b[48:]))
	}
	return fmt.Sprintf("%q", b[:16])
}

func TestKernelDumps(t *testing.T) {
	lab := vmlab.Open(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	want := map[vmlab.Format]string{
		vmlab.ELF:                "ELF, flags 0x0",
		vmlab.ELFPaging:          "ELF, flags 0x0",
		vmlab.Vmcore:             "ELF, flags 0x0",
		vmlab.KdumpZlib:          "flattened",
		vmlab.MakedumpfileZlib0:  "kdump, status 0x1",
		vmlab.MakedumpfileZlib1:  "kdump, status 0x1",
		vmlab.MakedumpfileZlib31: "kdump, status 0x1",
		vmlab.MakedumpfileLZO0:   "kdump, status 0x2",
		vmlab.MakedumpfileLZO1:   "kdump, status 0x2",
		vmlab.MakedumpfileLZO31:  "kdump, status 0x2",
		vmlab.MakedumpfilePlain1: "kdump, status 0x0",
		vmlab.MakedumpfileELF0:   "ELF, flags 0x0",
		vmlab.MakedumpfileELF1:   "ELF, flags 0x0",
		vmlab.MakedumpfileELF31:  "ELF, flags 0x0",
		vmlab.FlattenedZlib31:    "flattened",
		vmlab.FlattenedLZO1:      "flattened",
		vmlab.FlattenedELF31:     "flattened",
		vmlab.SplitZlib31:        "kdump, status 0x1",
		vmlab.SplitZlib1Empty:    "kdump, status 0x1",
		vmlab.CutZlib0:           "kdump, status 0x9", // 8: incomplete
		vmlab.CutELF1:            "ELF, flags 0x1",    // 1: incomplete
	}
	for _, f := range vmlab.Makedumpfiles() {
		if _, ok := want[f]; !ok {
			t.Errorf("%s is not checked", f)
		}
	}
	for f, k := range want {
		for _, part := range lab.Parts(f) {
			if got := kind(head(t, part)); got != k {
				t.Errorf("%s is %s, want %s", part, got, k)
			}
		}
	}
	if n := len(lab.Parts(vmlab.SplitZlib31)); n != 3 {
		t.Errorf("%d parts", n)
	}
	for _, f := range vmlab.Makedumpfiles() {
		report := lab.Report(f)
		if cut := strings.HasPrefix(string(f), "makedumpfile-cut-"); strings.Contains(report, "Free pages  ") == cut {
			t.Errorf("%s: the report is\n%s", f, report)
		}
	}
}

// TestKernelCrash has real kernels crash, and looks at what the next ones saw.
func TestKernelCrash(t *testing.T) {
	for _, m := range vmlab.Crashes() {
		t.Run(m.String(), func(t *testing.T) { testCrash(t, vmlab.OpenCrash(t, m)) })
	}
}

func testCrash(t *testing.T, lab *vmlab.Lab) {
	f, err := elf.Open(lab.Dump(vmlab.Vmcore))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	notes, err := io.ReadAll(f.Progs[0].Open())
	if err != nil || !strings.Contains(string(notes), "\nCRASHTIME=") {
		t.Errorf("no CRASHTIME in the notes (%v)", err)
	}
	var loads uint64
	for _, p := range f.Progs[1:] {
		loads += p.Filesz
		if p.Vaddr == 0 || p.Off+p.Filesz > sizeOf(t, lab.Dump(vmlab.Vmcore)) {
			t.Errorf("segment %+v", p.ProgHeader)
		}
	}
	if loads < 256<<20 {
		t.Errorf("segments of %d bytes", loads)
	}
	(&moment{Lab: lab, ram: openFile(t, lab.Dump(vmlab.RAM))}).holds(t, f)
	if k := kind(head(t, lab.Dump(vmlab.MakedumpfileZlib31))); k != "kdump, status 0x1" {
		t.Errorf("makedumpfile made %s of it", k)
	}
}

func openFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func sizeOf(t *testing.T, name string) uint64 {
	t.Helper()
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(info.Size())
}

func TestKernelLive(t *testing.T) {
	live := vmlab.Open(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1}).Live(t)
	t.Logf("the witness was found at stop %d", live.Tries)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pa, ok, err := live.Translate(ctx, live.CPU, witness.Base)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	got := make([]byte, len(witness.Marker))
	if _, err := live.ReadAt(got, int64(pa)); err != nil || string(got) != witness.Marker {
		t.Errorf("at 0x%x: %q, %v", pa, got, err)
	}
	if _, ok, err := live.Translate(ctx, live.CPU, 0x1000); ok || err != nil {
		t.Errorf("page 1 is mapped %v, %v", ok, err)
	}
	if text, err := live.Registers(ctx, live.CPU); err != nil || !strings.Contains(text, "CPL=3") {
		t.Errorf("registers %v\n%s", err, text)
	}
	if text, err := live.Registers(ctx, live.KernelCPU); err != nil || !strings.Contains(text, "CPL=0") {
		t.Errorf("registers %v\n%s", err, text)
	}
	if _, err := live.ReadAt(got, 1<<40); err == nil {
		t.Error("memory that is not there was read")
	}
}
