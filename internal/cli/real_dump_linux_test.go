// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
)

// TestRealDump takes a process out of an image, and has gdb read the core: its memory byte
// for byte, its threads and its mappings.
func TestRealDump(t *testing.T) {
	if _, err := exec.LookPath("gdb"); err != nil {
		testneed.Lacks(t, "needs the program gdb")
	}
	lab := vmlab.Open(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	w := lab.Truth().Witness(witness.RoleMain)
	core := filepath.Join(t.TempDir(), "core")
	spec := func(f vmlab.Format) string { return fmt.Sprintf("%s@%d", lab.Dump(f), w.Pid) }
	code, out, errs := run(t, "dump", spec(vmlab.ELF), "-o", core)
	if code != 0 || errs != "" || !strings.Contains(out, " 0 are missing") {
		t.Fatalf("exit %d, %s\n%s", code, errs, out)
	}
	testGdbMemory(t, core, w)
	threads := 0
	for name := range lab.Truth().Files {
		if ok, _ := filepath.Match(fmt.Sprintf("proc/%d/task/*/comm", w.Pid), name); ok {
			threads++
		}
	}
	out = gdb(t, core, "info threads", "info proc mappings")
	listed, mapped, _ := strings.Cut(out, "Mapped address spaces:")
	if _, rest, ok := strings.Cut(listed, "Target Id"); !ok || threads < 2 || strings.Count(rest, "LWP ") != threads {
		t.Errorf("gdb lists other than %d threads:\n%s", threads, out)
	}
	files := 0
	for line := range strings.Lines(string(lab.Truth().File("proc/%d/maps", w.Pid))) {
		f := strings.Fields(line)
		if len(f) < 6 || !strings.HasPrefix(f[5], "/") {
			continue
		}
		files++
		start, end, _ := strings.Cut(f[0], "-")
		for _, s := range []string{"0x" + strings.TrimLeft(start, "0"), "0x" + strings.TrimLeft(end, "0"), f[5]} {
			if !strings.Contains(mapped, s) {
				t.Errorf("gdb does not list %s of %s", s, line)
			}
		}
	}
	if files < 5 {
		t.Errorf("%d mappings of files", files)
	}

	// Of an image without user pages there are threads and mappings all the same.
	code, out, errs = run(t, "dump", spec(vmlab.MakedumpfileZlib31), "-o", core)
	if code != 5 || !strings.Contains(errs, "not saved in this dump") {
		t.Errorf("without user pages: exit %d, %s\n%s", code, errs, out)
	}
	if out := gdb(t, core, "info threads"); strings.Count(out, "LWP ") < threads {
		t.Errorf("without user pages gdb lists other than %d threads:\n%s", threads, out)
	}
	if code, _, errs := run(t, "read", "core:"+core, fmt.Sprintf("%#x", uint64(witness.Base))); code != 5 || !strings.Contains(errs, "not saved in this dump") {
		t.Errorf("a page that is missing of the core: exit %d, %s", code, errs)
	}
}

// testGdbMemory has gdb write the regions whose contents are known to files.
func testGdbMemory(t *testing.T, core string, w *witness.Report) {
	t.Helper()
	dir := t.TempDir()
	var commands []string
	for _, g := range w.Regions {
		if g.Sum != "" {
			commands = append(commands, fmt.Sprintf("dump binary memory %s/%s %#x %#x", dir, g.Name, g.Start, g.End))
		}
	}
	out := gdb(t, core, commands...)
	checked := 0
	for _, g := range w.Regions {
		b, err := os.ReadFile(filepath.Join(dir, g.Name))
		if g.Sum == "" || g.Kind == witness.Untouched || g.Kind == witness.Dropped {
			continue // what was never touched is not in a core
		}
		if sum := sha256.Sum256(b); err != nil || hex.EncodeToString(sum[:]) != g.Sum {
			t.Errorf("%s: gdb reads %d bytes, %v, that are not what the witness had:\n%s", g.Name, len(b), err, out)
		}
		checked++
	}
	if checked < 5 {
		t.Errorf("%d regions", checked)
	}
}

// gdb has gdb run commands on a core, and gives all that it says.
func gdb(t *testing.T, core string, commands ...string) string {
	t.Helper()
	args := []string{"-batch", "-nx", "-iex", "set debuginfod enabled off", "-c", core}
	for _, c := range commands {
		args = append(args, "-ex", c)
	}
	out, err := exec.Command("gdb", args...).CombinedOutput()
	if err != nil && !strings.Contains(string(out), "Cannot access memory") {
		t.Fatalf("gdb: %v\n%s", err, out)
	}
	return string(out)
}
