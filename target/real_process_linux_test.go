// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/kernel"
)

// TestRealProcess holds the processes in the image of every machine against what the
// guest said of each, and the memory of the witnesses against what they wrote there.
func TestRealProcess(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			k, _ := m.kernel(t, vmlab.ELF)
			t.Run("all", func(t *testing.T) { m.testMemories(t, k) })
			t.Run("witness", func(t *testing.T) { m.testWitnessProcess(t, k) })
		})
	}
}

// pids gives the processes that the guest had at the end, and that have memory.
func (m *moment) pids() (all []int) {
	name := regexp.MustCompile(`^proc/(\d+)/maps$`)
	for file, b := range m.Truth().Files {
		if s := name.FindStringSubmatch(file); s != nil && len(b) > 0 {
			pid, _ := strconv.Atoi(s[1])
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all
}

// openProcess opens a process in an image.
func openProcess(t testing.TB, k *kernel.Kernel, pid int, o *kernel.ProcessOptions) process {
	t.Helper()
	p, err := k.Process(t.Context(), pid, o)
	if err != nil {
		t.Fatalf("%d: %v", pid, err)
	}
	t.Cleanup(func() { p.Close() })
	return process{p}
}

// testMemories holds mappings, arguments and environments against /proc.
func (m *moment) testMemories(t *testing.T, k *kernel.Kernel) {
	lines := 0
	for _, pid := range m.pids() {
		p := openProcess(t, k, pid, nil)
		var got strings.Builder
		for r, err := range p.Regions(t.Context()) {
			if err != nil {
				t.Errorf("%d: %v", pid, err)
				break
			}
			got.WriteString(mapsLine(r))
			lines++
		}
		want := string(m.Truth().File("proc/%d/maps", pid))
		if pid == 1 && namedLines(got.String()) == namedLines(want) {
			want = got.String() // it took all of this down, and went on allocating
		}
		if got.String() != want {
			t.Errorf("%d: the mappings differ:\n%s", pid, linesApart(got.String(), want))
		}
		if b, err := p.Cmdline(t.Context()); err != nil || !bytes.Equal(b, m.Truth().File("proc/%d/cmdline", pid)) {
			t.Errorf("%d: arguments %q, %v", pid, b, err)
		}
		if b, err := p.Environ(t.Context()); err != nil || !bytes.Equal(b, m.Truth().File("proc/%d/environ", pid)) {
			t.Errorf("%d: environment %q, %v", pid, b, err)
		}
		if b, err := p.Auxv(t.Context()); err != nil || !bytes.Equal(b, m.Truth().File("proc/%d/auxv", pid)) {
			t.Errorf("%d: auxiliary vector %x, %v, want %x", pid, b, err, m.Truth().File("proc/%d/auxv", pid))
		}
		if exe, err := p.Exe(t.Context()); err != nil || exe != "/init" {
			t.Errorf("%d: program %q, %v", pid, exe, err)
		}
	}
	t.Logf("%d mappings", lines)
	if lines < 2000 {
		t.Errorf("only %d mappings", lines)
	}
}

// mapsLine is a line of /proc/PID/maps.
func mapsLine(r remora.Region) string {
	kind := "p"
	if r.Shared {
		kind = "s"
	}
	line := fmt.Sprintf("%08x-%08x %v%s %08x %02x:%02x %d ", uint64(r.Start), uint64(r.Last()+1), r.Perm, kind, r.Offset, r.Major, r.Minor, r.Inode)
	if r.Name != "" {
		line = fmt.Sprintf("%-73s%s", line, r.Name)
		if r.Deleted {
			line += " (deleted)"
		}
	}
	return line + "\n"
}

// namedLines gives the lines of mappings that have names.
func namedLines(lines string) string {
	return regexp.MustCompile(`(?m)^.* 00:00 0 \n`).ReplaceAllString(lines, "")
}

// linesApart gives the lines that one text has and the other does not.
func linesApart(got, want string) string {
	var out strings.Builder
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	n := 0
	for _, side := range []struct {
		mark string
		x, y []string
	}{{"got  ", a, b}, {"want ", b, a}} {
		for _, line := range side.x {
			if !slices.Contains(side.y, line) && n < 40 {
				out.WriteString(side.mark + line + "\n")
				n++
			}
		}
	}
	return out.String()
}

// testWitnessProcess reads each region of the witness, and counts where its pages are.
func (m *moment) testWitnessProcess(t *testing.T, k *kernel.Kernel) {
	main := m.Truth().Witness(witness.RoleMain)
	p := openProcess(t, k, main.Pid, nil)
	pages := map[uint64]vmlab.Page{}
	for _, page := range m.Truth().Pages(main.Pid) {
		pages[page.Addr] = page
	}
	if areas, err := k.SwapAreas(t.Context()); err != nil || len(areas) != 1 {
		t.Errorf("swap areas: %v, %v", areas, err)
	}
	for _, g := range main.Regions {
		u := p.usageOf(t, g)
		present := uint64(0)
		for at := g.Start; at < g.End; at += page {
			if pages[at].Present() {
				present += page
			}
		}
		if u.Resident != present {
			t.Errorf("%s: %d bytes are resident, and the guest had %d: %+v", g.Name, u.Resident, present, u)
		}
		m.testRegion(t, p, g)
	}
}

// process is a process in an image.
type process struct{ *kernel.Process }

// usageOf gives where the pages of a region are.
func (p process) usageOf(t *testing.T, g witness.Region) (sum kernel.PageUsage) {
	t.Helper()
	for run, err := range p.Runs(t.Context(), remora.Range{Start: remora.Addr(g.Start), Size: g.End - g.Start}) {
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case run.Table && run.Err == nil:
			sum.Resident += run.Size
		case run.Zero:
			sum.Untouched += run.Size
		case run.Err == nil:
			sum.Cached += run.Size
		default:
			sum.Absent += run.Size
		}
	}
	return sum
}

// testRegion holds what a region reads as against what the witness had there.
func (m *moment) testRegion(t *testing.T, p process, g witness.Region) {
	t.Helper()
	want := make([]byte, g.End-g.Start)
	if g.Seed != 0 && g.Kind != witness.Dropped {
		witness.Fill(want, g.Seed)
	}
	if g.Kind == witness.Anon {
		copy(want, witness.Marker)
	}
	if g.Kind == witness.Guard {
		m.absent(t, p.Memory(), g, remora.ErrGuard)
		return
	}
	got := make([]byte, len(want))
	n, err := p.Memory().ReadAt(t.Context(), got, remora.Addr(g.Start))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: %d bytes of %d, %v; equal: %v", g.Name, n, len(got), err, bytes.Equal(got[:n], want[:n]))
		return
	}
	if sum := sha256.Sum256(got); g.Sum != "" && hex.EncodeToString(sum[:]) != g.Sum {
		t.Errorf("%s: it is not what the witness had", g.Name)
	}
}
