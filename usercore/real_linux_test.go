// SPDX-License-Identifier: Apache-2.0

//go:build !race && (amd64 || arm64 || 386)

package usercore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/usercore"
)

// snapshot is what /proc tells of a child before a core is made.
type snapshot struct {
	maps []remora.Region
	auxv []usercore.Aux
	tids []int64
	wait map[int64][2]remora.Addr // SP and PC of threads in system calls
	argv []string
	envp []string
}

func (v *victimProcess) snapshot(t *testing.T) *snapshot {
	t.Helper()
	s := &snapshot{maps: parseMaps(t, v.read(t, "maps")), wait: map[int64][2]remora.Addr{}}
	for b := []byte(v.read(t, "auxv")); len(b) > 0; {
		const w = strconv.IntSize / 8
		a := usercore.Aux{Tag: nativeWord(b), Value: nativeWord(b[w:])}
		if b = b[2*w:]; a.Tag == 0 {
			break
		}
		s.auxv = append(s.auxv, a)
	}
	for _, id := range v.Waiting {
		sp, pc := v.waiting(t, id)
		s.wait[id] = [2]remora.Addr{sp, pc}
	}
	s.argv = strings.Split(strings.TrimSuffix(v.read(t, "cmdline"), "\x00"), "\x00")
	s.envp = strings.Split(strings.TrimSuffix(v.read(t, "environ"), "\x00"), "\x00")
	list, err := os.ReadDir(v.proc("task"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		s.tids = append(s.tids, int64(number(t, e.Name())))
	}
	return s
}

func nativeWord(b []byte) uint64 {
	if strconv.IntSize == 64 {
		return binary.NativeEndian.Uint64(b)
	}
	return uint64(binary.NativeEndian.Uint32(b))
}

// parseMaps reads /proc/PID/maps. Names are those that a core can know.
func parseMaps(t *testing.T, text string) []remora.Region {
	t.Helper()
	var list []remora.Region
	for line := range strings.Lines(text) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
		first, last, _ := strings.Cut(f[0], "-")
		r := remora.Region{Range: remora.Between(remora.Addr(number(t, "0x"+first)), remora.Addr(number(t, "0x"+last)))}
		for i, p := range []remora.Perm{remora.PermRead, remora.PermWrite, remora.PermExec} {
			if f[1][i] != '-' {
				r.Perm |= p
			}
		}
		switch name := strings.TrimLeft(f[5], " "); {
		case strings.HasPrefix(name, "/"):
			r.Name, r.Deleted = strings.CutSuffix(name, " (deleted)")
			r.Offset = number(t, "0x"+f[2])
		case name == "[stack]", name == "[vdso]", name == "[vsyscall]":
			r.Name = name
		}
		list = append(list, r)
	}
	return list
}

// find gives the mapping of that name, as /proc/PID/maps has it.
func (v *victimProcess) find(t *testing.T, name string) remora.Range {
	t.Helper()
	for line := range strings.Lines(v.read(t, "maps")) {
		if strings.HasSuffix(line, " "+name+"\n") {
			return parseMaps(t, line)[0].Range
		}
	}
	t.Fatalf("the child has no %s", name)
	return remora.Range{}
}

func regionsOf(t *testing.T, c *usercore.Core) []remora.Region {
	t.Helper()
	var list []remora.Region
	for r, err := range c.Regions(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, r)
	}
	return list
}

func openFile(t *testing.T, path string, o *usercore.Options) *usercore.Core {
	t.Helper()
	c, err := usercore.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// compareCommand holds what is on the stack against what /proc told.
func (s *snapshot) compareCommand(t *testing.T, c *usercore.Core) {
	t.Helper()
	argv, envp, err := c.Command(t.Context())
	if err != nil || !slices.Equal(argv, s.argv) || !slices.Equal(envp, s.envp) || len(envp) == 0 {
		t.Errorf("%q and %d variables, %v: want %q and %d", argv, len(envp), err, s.argv, len(s.envp))
	}
}

// compareProc holds what all makers record against what /proc told.
func (v *victimProcess) compareProc(t *testing.T, c *usercore.Core, s *snapshot) {
	t.Helper()
	if d := cmp.Diff(s.auxv, c.Auxv()); d != "" || len(s.auxv) == 0 {
		t.Error(d)
	}
	if p := c.Process(); p.PID != int64(v.cmd.Process.Pid) || !ours(p.PPID) || p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) {
		t.Errorf("%+v", p)
	}
	threads, err := c.Threads()
	if err != nil {
		t.Fatal(err)
	}
	have := map[int64]*usercore.Thread{}
	for i := range threads {
		have[threads[i].ID] = &threads[i]
	}
	for _, id := range s.tids {
		if have[id] == nil {
			t.Errorf("thread %d is not in the core", id)
		}
	}
	for id, want := range s.wait {
		if th := have[id]; th != nil && (th.SP != want[0] || th.PC != want[1]) {
			t.Errorf("thread %d: SP %v, PC %v, want %v", id, th.SP, th.PC, want)
		}
	}
}

// ours says whether id is one of a thread of this process.
func ours(id int64) bool {
	_, err := os.Stat("/proc/self/task/" + strconv.FormatInt(id, 10))
	return err == nil
}

// holds wants the memory at a to be the child's, as it is now or was said to be.
func holds(t *testing.T, c *usercore.Core, what string, a remora.Addr, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := c.Memory().ReadAt(context.Background(), got, a); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s: not what it was, %v", what, err)
	}
}

// lacks wants nothing of what lies at a, for this cause.
func lacks(t *testing.T, c *usercore.Core, what string, a remora.Addr, cause error) {
	t.Helper()
	for _, at := range []remora.Addr{a, a + remora.Addr(pages*os.Getpagesize()-1)} {
		if _, err := c.Memory().Uint8(context.Background(), at); !errors.Is(err, cause) {
			t.Errorf("%s: %v, want %v", what, err, cause)
		}
	}
}

// bytesAt reads the child's own memory.
func (v *victimProcess) bytesAt(t *testing.T, a remora.Addr, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := v.mem.ReadAt(b, int64(a)); err != nil {
		t.Fatalf("%v: %v", a, err)
	}
	return b
}

// setFilter says which memory goes into the child's core (core(5)).
func (v *victimProcess) setFilter(t *testing.T, bits string) {
	t.Helper()
	if err := os.WriteFile(v.proc("coredump_filter"), []byte(bits), 0); err != nil {
		t.Fatal(err)
	}
}

// TestKernelCore compares a core that the kernel wrote with the process that it was
// written of, and with what gdb reads in it.
func TestKernelCore(t *testing.T) {
	requireCores(t)
	requireGDB(t)
	v := startVictim(t, 1<<63)
	v.setFilter(t, "0x33")
	s := v.snapshot(t)
	size := pages * os.Getpagesize()
	anon, shared := v.bytesAt(t, v.Anon, size), v.bytesAt(t, v.Shared, size)
	vdso, vvar := v.find(t, "[vdso]"), v.find(t, "[vvar]")
	code := v.bytesAt(t, vdso.Start, int(vdso.Size))
	path := v.kill(t)
	c := openFile(t, path, nil)
	if c.Maker() != usercore.Linux {
		t.Errorf("made by %v", c.Maker())
	}
	v.compareProc(t, c, s)
	s.compareCommand(t, c)
	if d := cmp.Diff(s.maps, regionsOf(t, c)); d != "" {
		t.Error(d)
	}
	threads, err := c.Threads()
	if err != nil || len(threads) == 0 || threads[0].ID != v.Crash || threads[0].Signal != 11 {
		t.Errorf("the thread that crashed: %+v, %v", threads, err)
	}
	if got := c.Process().Signal; got.Number != 11 || got.Addr != v.None+faultAt {
		t.Errorf("signal %+v, want 11 at %v", got, v.None+faultAt)
	}
	holds(t, c, "private memory", v.Anon, anon)
	holds(t, c, "what was written there", v.Anon, fill(size, 1))
	holds(t, c, "shared memory", v.Shared, shared)
	holds(t, c, "vdso", vdso.Start, code)
	holds(t, c, "vvar, which the kernel writes as zeros", vvar.Start, make([]byte, vvar.Size))
	lacks(t, c, "memory never touched", v.Never, remora.ErrNotSaved)
	lacks(t, c, "memory not to be touched", v.None, remora.ErrNotSaved)
	lacks(t, c, "memory marked so", v.Hidden, remora.ErrNotSaved)
	lacks(t, c, "a file", v.File, remora.ErrNotSaved)
	if _, err := c.Memory().Uint8(context.Background(), 0x10); !errors.Is(err, remora.ErrUnmapped) {
		t.Error(err)
	}
	compareGDB(t, path, c)
}

// TestKernelCoreAll has the filter that leaves out nothing.
func TestKernelCoreAll(t *testing.T) {
	requireCores(t)
	v := startVictim(t, 1<<63)
	v.setFilter(t, "0x7f")
	file := v.bytesAt(t, v.File, pages*os.Getpagesize())
	c := openFile(t, v.kill(t), nil)
	holds(t, c, "a file", v.File, file)
	lacks(t, c, "memory marked so", v.Hidden, remora.ErrNotSaved)
}

// TestKernelCoreFiles takes what the kernel left out of a core from the files that
// were mapped, a program and its libraries, and must give what the process had.
func TestKernelCoreFiles(t *testing.T) {
	requireCores(t)
	v := startSleep(t)
	maps := parseMaps(t, v.read(t, "maps"))
	var want [][]byte
	for _, r := range maps {
		b := make([]byte, r.Size)
		n, _ := v.mem.ReadAt(b, int64(r.Start))
		want = append(want, b[:n])
	}
	path := v.kill(t)
	plain, full := openFile(t, path, nil), openFile(t, path, &usercore.Options{Files: true})
	for i, r := range maps {
		if r.Perm != remora.PermRead|remora.PermExec || !strings.HasPrefix(r.Name, "/") {
			continue
		}
		if _, err := plain.Memory().Uint8(context.Background(), r.Start); !errors.Is(err, remora.ErrNotSaved) {
			t.Errorf("%v of %s without being asked for: %v", r.Range, r.Name, err)
		}
		if uint64(len(want[i])) != r.Size {
			t.Errorf("%v of %s: the process has %d bytes", r.Range, r.Name, len(want[i]))
		}
		holds(t, full, "text of "+r.Name, r.Start, want[i])
	}
	same := 0
	for i, r := range maps { // what is not text must be right or missing
		if r.Name == "[stack]" {
			continue // the call that was interrupted leaves the rest of its time there
		}
		got := make([]byte, len(want[i]))
		n, err := full.Memory().ReadAt(context.Background(), got, r.Start)
		if !bytes.Equal(got[:n], want[i][:n]) || n < len(got) && !errors.Is(err, remora.ErrNotSaved) {
			t.Errorf("%v %v of %s: %d bytes, %v", r.Range, r.Perm, r.Name, n, err)
		}
		same += n
	}
	if s := facts(t, full); !strings.Contains(s, "from files: ") {
		t.Error(s)
	}
	t.Logf("%d bytes are the same", same)
}

// TestKernelCoreCut has a core that the kernel cut off at the limit.
func TestKernelCoreCut(t *testing.T) {
	requireCores(t)
	const limit = 256 << 10
	v := startVictim(t, limit)
	v.setFilter(t, "0x33")
	s := v.snapshot(t)
	c := openFile(t, v.kill(t), nil)
	v.compareProc(t, c, s)
	if d := cmp.Diff(s.maps, regionsOf(t, c)); d != "" {
		t.Error(d)
	}
	_, err := c.Memory().Uint8(context.Background(), v.Anon)
	if !errors.Is(err, remora.ErrTruncated) || !strings.Contains(err.Error(), "of the core, which ends at") {
		t.Error(err)
	}
	lacks(t, c, "memory marked so", v.Hidden, remora.ErrNotSaved)
	if s := facts(t, c); !strings.Contains(s, "cut off: ") {
		t.Error(s)
	}
}

// TestGcore compares a core that gdb made with the process, which lives on, and
// with what gdb reads in it.
func TestGcore(t *testing.T) {
	requireGDB(t)
	v := startVictim(t, 0)
	v.setFilter(t, "0x33")
	s := v.snapshot(t)
	path := v.gcore(t)
	c := openFile(t, path, nil)
	if c.Maker() != usercore.GDB {
		t.Errorf("made by %v", c.Maker())
	}
	v.compareProc(t, c, s)
	s.compareCommand(t, c)
	size := pages * os.Getpagesize()
	holds(t, c, "private memory", v.Anon, v.bytesAt(t, v.Anon, size))
	holds(t, c, "what was written there", v.Anon, fill(size, 1))
	holds(t, c, "shared memory", v.Shared, v.bytesAt(t, v.Shared, size))
	for what, a := range map[string]remora.Addr{"memory marked so": v.Hidden, "[vvar]": v.find(t, "[vvar]").Start} {
		_, err := c.Memory().Uint8(context.Background(), a)
		if !errors.Is(err, remora.ErrFault) || errors.Is(err, remora.ErrNotSaved) || errors.Is(err, remora.ErrUnmapped) {
			t.Errorf("%s: %v, but gdb says nothing of it", what, err)
		}
	}
	i := slices.IndexFunc(regionsOf(t, c), func(r remora.Region) bool { return r.Contains(v.None) })
	if i < 0 || regionsOf(t, c)[i].Perm&remora.PermRead == 0 {
		t.Errorf("memory not to be touched is region %d; gdb calls all readable", i)
	}
	lacks(t, c, "a file", v.File, remora.ErrNotSaved)
	compareListed(t, c, s.maps)
	compareGDB(t, path, c)
}

// compareListed wants regions of the core to be mapped, each within one mapping, and with its name.
func compareListed(t *testing.T, c *usercore.Core, maps []remora.Region) {
	t.Helper()
	regions := regionsOf(t, c)
	for _, r := range regions {
		in := false
		for _, m := range maps {
			in = in || m.Contains(r.Start) && m.Contains(r.Last()) && m.Name == r.Name && m.Deleted == r.Deleted &&
				(m.Name == "" || m.Offset+uint64(r.Start-m.Start) == r.Offset)
		}
		if !in {
			t.Errorf("%v %v %s: no such mapping", r.Range, r.Perm, r.Name)
		}
	}
	if len(regions) < len(maps)/2 {
		t.Errorf("%d regions of %d mappings", len(regions), len(maps))
	}
}
