// SPDX-License-Identifier: Apache-2.0

//go:build !race && (amd64 || arm64 || 386)

package usercore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/usercore"
)

// gdbMost is a guard against a debugger that hangs.
const gdbMost = 2 * time.Minute

// gdb runs commands of gdb, and gives what it printed.
func gdb(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), gdbMost)
	defer cancel()
	args = append([]string{"-nx", "-nh", "-batch", "-iex", "set auto-load no", "-iex", "set auto-solib-add off",
		"-iex", "set debuginfod enabled off", "-iex", "set width 0", "-iex", "set pagination off"}, args...)
	cmd := exec.CommandContext(ctx, requireGDB(t), args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("gdb %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// gcore has gdb make a core of the running child.
func (v *victimProcess) gcore(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "gcore")
	out := gdb(t, "-p", strconv.Itoa(v.cmd.Process.Pid), "-ex", "generate-core-file "+path)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// gdbView is what gdb tells about a core.
type gdbView struct {
	regs  map[int64]map[string]uint64 // by id of the thread, then by name
	auxv  map[uint64]string           // values as printed
	files []remora.Region
	mem   []string // files with memory
}

var (
	gdbThread = regexp.MustCompile(`(?m)^Thread \d+ \(.*?LWP (\d+)\)+:$`)
	gdbReg    = regexp.MustCompile(`(?m)^([a-z_0-9]+) +(0x[0-9a-f]+)`)
	gdbAux    = regexp.MustCompile(`(?m)^(\d+) +\S+ +.*? (0x[0-9a-f]+|\d+)(?: ".*")?$`)
	gdbFile   = regexp.MustCompile(`(?m)^[ \t]*(0x[0-9a-f]+) +(0x[0-9a-f]+) +(0x[0-9a-f]+) +(0x[0-9a-f]+) +(.*)$`)
)

// viewWithGDB has gdb read the core, and the given ranges of its memory.
func viewWithGDB(t *testing.T, core string, ranges []remora.Range) *gdbView {
	t.Helper()
	dir := t.TempDir()
	v := &gdbView{regs: map[int64]map[string]uint64{}, auxv: map[uint64]string{}}
	args := []string{"-c", core, "-ex", "echo #auxv\\n", "-ex", "info auxv", "-ex", "echo #files\\n", "-ex", "info proc mappings",
		"-ex", "echo #threads\\n", "-ex", "thread apply all info registers", "-ex", "echo #end\\n"}
	for i, r := range ranges {
		path := filepath.Join(dir, strconv.Itoa(i))
		v.mem = append(v.mem, path)
		args = append(args, "-ex", fmt.Sprintf("dump binary memory %s %#x %#x", path, uint64(r.Start), uint64(r.Last())+1))
	}
	out := gdb(t, args...)
	part := func(from, to string) string {
		_, after, ok1 := strings.Cut(out, "#"+from+"\n")
		text, _, ok2 := strings.Cut(after, "#"+to+"\n")
		if !ok1 || !ok2 {
			t.Fatalf("gdb did not come to %s\n%s", to, out)
		}
		return text
	}
	for _, m := range gdbAux.FindAllStringSubmatch(part("auxv", "files"), -1) {
		v.auxv[number(t, m[1])] = m[2]
	}
	for _, m := range gdbFile.FindAllStringSubmatch(part("files", "threads"), -1) {
		r := remora.Region{Range: remora.Range{Start: remora.Addr(number(t, m[1])), Size: number(t, m[3])}, Offset: number(t, m[4])}
		r.Name, r.Deleted = strings.CutSuffix(m[5], " (deleted)")
		v.files = append(v.files, r)
	}
	text := part("threads", "end")
	heads := gdbThread.FindAllStringSubmatchIndex(text, -1)
	for i, h := range heads {
		end := len(text)
		if i+1 < len(heads) {
			end = heads[i+1][0]
		}
		regs := map[string]uint64{}
		for _, m := range gdbReg.FindAllStringSubmatch(text[h[1]:end], -1) {
			regs[m[1]] = number(t, m[2])
		}
		v.regs[int64(number(t, text[h[2]:h[3]]))] = regs
	}
	return v
}

func number(t *testing.T, s string) uint64 {
	t.Helper()
	n, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// savedRanges gives what can be read of a core, in runs that begin and end with a region.
func savedRanges(t *testing.T, c *usercore.Core) []remora.Range {
	t.Helper()
	var list []remora.Range
	buf := make([]byte, 1<<20)
	for r, err := range c.Regions(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		var n uint64
		for n < r.Size {
			k, err := c.Memory().ReadAt(context.Background(), buf[:min(uint64(len(buf)), r.Size-n)], r.Start+remora.Addr(n))
			if n += uint64(k); err != nil {
				if !errors.Is(err, remora.ErrNotSaved) {
					t.Errorf("%v: %v", r.Start+remora.Addr(n), err)
				}
				break
			}
		}
		if n > 0 {
			list = append(list, remora.Range{Start: r.Start, Size: n})
		}
	}
	return list
}

// compareGDB holds all that we read of a core against what gdb reads of it.
func compareGDB(t *testing.T, path string, c *usercore.Core) {
	t.Helper()
	ranges := savedRanges(t, c)
	v := viewWithGDB(t, path, ranges)
	threads, err := c.Threads()
	if err != nil {
		t.Fatal(err)
	}
	if len(threads) != len(v.regs) || len(threads) < 3 {
		t.Errorf("%d threads, gdb sees %d", len(threads), len(v.regs))
	}
	for i := range threads {
		compareRegs(t, &threads[i], v.regs[threads[i].ID])
	}
	if len(v.auxv) != len(c.Auxv())+1 { // gdb shows AT_NULL
		t.Errorf("%d entries of auxv, gdb sees %d", len(c.Auxv()), len(v.auxv))
	}
	for _, a := range c.Auxv() {
		if got := v.auxv[a.Tag]; got == "" || number(t, got) != a.Value {
			t.Errorf("auxv %s: %#x, gdb sees %q", a.Name(), a.Value, got)
		}
	}
	compareFiles(t, c, v.files)
	compareMemory(t, c, ranges, v.mem)
}

// compareRegs wants every register that gdb shows under the same name.
func compareRegs(t *testing.T, th *usercore.Thread, regs map[string]uint64) {
	t.Helper()
	common := 0
	for _, r := range th.Regs {
		w, ok := regs[r.Name]
		if !ok {
			continue
		}
		if common++; r.Value != w {
			t.Errorf("thread %d: %s = %#x, gdb sees %#x", th.ID, r.Name, r.Value, w)
		}
	}
	if common < 16 {
		t.Errorf("thread %d: only %d registers are known to gdb: %v, %v", th.ID, common, th.Regs, regs)
	}
}

// compareFiles wants the same mapped files, at the same places.
func compareFiles(t *testing.T, c *usercore.Core, files []remora.Region) {
	t.Helper()
	if len(files) == 0 {
		t.Error("gdb sees no mapped files")
	}
	for _, f := range files {
		a, end := f.Start, f.Start+remora.Addr(f.Size)
		for r := range c.Regions(context.Background()) {
			if a < end && r.Contains(a) && r.Name == f.Name && r.Deleted == f.Deleted && r.Offset+uint64(a-r.Start) == f.Offset+uint64(a-f.Start) {
				a = r.Start + remora.Addr(r.Size)
			}
		}
		if a < end {
			t.Errorf("%v of %s at %#x: regions cover it up to %v", f.Range, f.Name, f.Offset, a)
		}
	}
}

// compareMemory wants the same bytes.
func compareMemory(t *testing.T, c *usercore.Core, ranges []remora.Range, files []string) {
	t.Helper()
	var all uint64
	for i, r := range ranges {
		want, err := os.ReadFile(files[i])
		if err != nil || uint64(len(want)) != r.Size {
			t.Errorf("%v: gdb has %d bytes, %v", r, len(want), err)
			continue
		}
		got := make([]byte, r.Size)
		if _, err := c.Memory().ReadAt(context.Background(), got, r.Start); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%v: not the bytes that gdb reads", r)
		}
		all += r.Size
	}
	t.Logf("%d bytes in %d ranges are the same for gdb", all, len(ranges))
}
