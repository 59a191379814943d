// SPDX-License-Identifier: Apache-2.0

package usercore_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/usercore"
)

const page = 0x1000

// fill gives n bytes that tell where they belong.
func fill(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = seed + byte(i) + byte(i>>8)
	}
	return b
}

func open(t testing.TB, b []byte) *usercore.Core {
	t.Helper()
	c, err := usercore.New(bytes.NewReader(b), int64(len(b)), "test.core", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// kernelCore is what the kernel writes for a small process.
func kernelCore(c testimage.Core) testimage.Core {
	c.PageAlign = true
	regs := make([]uint64, 40)
	for i := range regs {
		regs[i] = 0x1000 + uint64(i)
	}
	switch c.Machine {
	case elf.EM_386:
		regs = regs[:17]
	case elf.EM_AARCH64:
		regs = regs[:34]
	default:
		regs = regs[:27]
	}
	c.Notes = []testimage.Note{
		c.PRStatus(4711, 11, regs...),
		c.PRPSInfo(4700, 1000, "victim", "./victim -x"),
		c.SigInfo(11, 1, 0x7000),
		c.Auxv(6, page, 25, 0x50010, 33, 0x60000),
		c.Files(
			testimage.Mapping{Start: 0x10000, End: 0x12000, Page: 0, Name: "/bin/victim"},
			testimage.Mapping{Start: 0x12000, End: 0x13000, Page: 2, Name: "/bin/victim"},
			testimage.Mapping{Start: 0x70000, End: 0x71000, Page: 1, Name: "/tmp/gone (deleted)"}),
		{Name: "CORE", Type: 2, Desc: []byte("floating point")},
		c.PRStatus(4712, 0, regs...),
		{Name: "LINUX", Type: 0x202, Desc: []byte("xstate")},
	}
	c.Loads = []testimage.Load{
		{Addr: 0x10000, Data: fill(page, 1), Flags: elf.PF_R},
		{Addr: 0x11000, Mem: page, Flags: elf.PF_R | elf.PF_X},
		{Addr: 0x12000, Data: fill(page, 2), Flags: elf.PF_R | elf.PF_W},
		{Addr: 0x50000, Data: fill(2*page, 3), Mem: 3 * page, Flags: elf.PF_R | elf.PF_W},
		{Addr: 0x60000, Data: fill(page, 4), Flags: elf.PF_R | elf.PF_X},
		{Addr: 0x61000, Data: fill(page, 5)}, // PROT_NONE, and saved
	}
	return c
}

// shapes are the classes and byte orders, each with a machine that has them.
var shapes = []testimage.Core{
	{},
	{Machine: elf.EM_AARCH64},
	{Machine: elf.EM_AARCH64, BigEndian: true},
	{Machine: elf.EM_386, Narrow: true},
	{Machine: elf.EM_S390, BigEndian: true},
	{Machine: elf.EM_PPC, BigEndian: true, Narrow: true},
	{Machine: elf.EM_X86_64, Extended: true},
	{Machine: elf.EM_X86_64, ProgsLast: true},
	{Machine: elf.EM_X86_64, NotesLast: true},
}

func TestMemory(t *testing.T) {
	for _, shape := range shapes {
		core := kernelCore(shape)
		c := open(t, core.Bytes())
		for _, tc := range []struct {
			a    remora.Addr
			size int
			want []byte
			err  error
		}{
			{0x10000, page, fill(page, 1), nil},
			{0x10800, page, fill(page, 1)[0x800:], remora.ErrNotSaved},
			{0x11000, 1, nil, remora.ErrNotSaved},
			{0x12fff, 2, fill(page, 2)[page-1:], remora.ErrUnmapped},
			{0x51ffe, page, fill(2*page, 3)[2*page-2:], remora.ErrNotSaved},
			{0x60000, 2 * page, append(fill(page, 4), fill(page, 5)...), nil},
			{0x70000, 8, nil, remora.ErrNotSaved},
			{0xf000, 2 * page, nil, remora.ErrUnmapped},
			{0, 1, nil, remora.ErrUnmapped},
			{remora.MaxAddr, 2, nil, remora.ErrUnmapped},
		} {
			buf := make([]byte, tc.size)
			segs := []remora.Seg{{Addr: tc.a, Buf: buf}}
			n, err := c.Transfer(context.Background(), remora.Read, segs)
			if int(n) != len(tc.want) || err != tc.err || !bytes.Equal(buf[:n], tc.want) {
				t.Errorf("%v: %v+%#x: %d bytes, %v; want %d, %v", shape.Machine, tc.a, tc.size, n, err, len(tc.want), tc.err)
			}
		}
		info := c.Info()
		if info.PtrSize != uint8(core.WordSize()) || info.BigEndian != core.BigEndian || info.Granule != page || info.Writable || info.Live {
			t.Errorf("%v: %+v", shape.Machine, info)
		}
	}
}

func TestRegions(t *testing.T) {
	const r, w, x = remora.PermRead, remora.PermWrite, remora.PermExec
	at := func(a remora.Addr, pages uint64) remora.Range { return remora.Range{Start: a, Size: pages * page} }
	want := []remora.Region{
		{Range: at(0x10000, 1), Perm: r, Name: "/bin/victim"},
		{Range: at(0x11000, 1), Perm: r | x, Name: "/bin/victim", Offset: page},
		{Range: at(0x12000, 1), Perm: r | w, Name: "/bin/victim", Offset: 2 * page},
		{Range: at(0x50000, 3), Perm: r | w, Name: "[stack]"},
		{Range: at(0x60000, 1), Perm: r | x, Name: "[vdso]"},
		{Range: at(0x61000, 1)},
		{Range: at(0x70000, 1), Name: "/tmp/gone", Deleted: true, Offset: page},
	}
	for _, shape := range shapes {
		core := kernelCore(shape)
		var got []remora.Region
		for r, err := range open(t, core.Bytes()).Regions(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%v: %s", shape.Machine, d)
		}
	}
}

func TestThreads(t *testing.T) {
	for machine, pc := range map[elf.Machine]string{elf.EM_X86_64: "rip", elf.EM_386: "eip", elf.EM_AARCH64: "pc", elf.EM_S390: ""} {
		core := kernelCore(testimage.Core{Machine: machine, Narrow: machine == elf.EM_386, BigEndian: machine == elf.EM_S390})
		list, err := open(t, core.Bytes()).Threads()
		if err != nil {
			t.Fatal(err)
		}
		if len(list) != 2 || list[0].ID != 4711 || list[0].Signal != 11 || list[1].ID != 4712 || list[1].Signal != 0 {
			t.Fatalf("%v: %+v", machine, list)
		}
		th := &list[0]
		if raw := core.Order().Uint32(th.Raw); machine == elf.EM_386 && raw != 0x1000 || len(th.Raw)%core.WordSize() != 0 {
			t.Errorf("%v: %d raw bytes, %#x", machine, len(th.Raw), raw)
		}
		v, ok := th.Reg(pc)
		if pc == "" {
			if th.Regs != nil || len(th.Raw) != 27*8 {
				t.Errorf("%v: registers %v, %d raw bytes", machine, th.Regs, len(th.Raw))
			}
		} else if !ok || remora.Addr(v) != th.PC || v != 0x1000+map[string]uint64{"rip": 16, "eip": 12, "pc": 32}[pc] {
			t.Errorf("%v: %s = %#x, %v; PC %v", machine, pc, v, ok, th.PC)
		}
	}
}

func TestNotes(t *testing.T) {
	for _, shape := range shapes {
		core := kernelCore(shape)
		c := open(t, core.Bytes())
		want := usercore.Process{PID: 4700, PPID: 1, UID: 1000, GID: 1000, Command: "victim", Args: "./victim -x",
			Signal: usercore.Signal{Number: 11, Code: 1, Addr: 0x7000}}
		if core.Machine == elf.EM_PPC {
			want.UID, want.GID = c.Process().UID, c.Process().GID // 2 bytes on 386 and ARM only
		}
		if d := cmp.Diff(want, c.Process()); d != "" {
			t.Errorf("%v: %s", shape.Machine, d)
		}
		if d := cmp.Diff([]usercore.Aux{{Tag: 6, Value: page}, {Tag: 25, Value: 0x50010}, {Tag: 33, Value: 0x60000}}, c.Auxv()); d != "" {
			t.Error(d)
		}
		notes := c.Notes()
		if len(notes) != len(core.Notes) {
			t.Fatalf("%d notes, want %d", len(notes), len(core.Notes))
		}
		for i, n := range notes {
			b, err := c.NoteData(n)
			if w := core.Notes[i]; err != nil || !bytes.Equal(b, w.Desc) || n.Owner != w.Name || n.Type != w.Type {
				t.Errorf("note %d: %+v, %v", i, n, err)
			}
		}
		for i, id := range []int64{4711, 0, 4711, 0, 0, 4711, 4712, 4712} {
			if notes[i].Thread != id {
				t.Errorf("note %d belongs to %d, want %d", i, notes[i].Thread, id)
			}
		}
	}
	if n := (usercore.Aux{Tag: 33}).Name(); n != "AT_SYSINFO_EHDR" {
		t.Error(n)
	}
	if n := (usercore.Aux{Tag: 51}).Name() + (usercore.Aux{Tag: 31}).Name() + (usercore.Aux{Tag: 1 << 40}).Name(); n != "AT_MINSIGSTKSZAT_EXECFN1099511627776" {
		t.Error(n)
	}
}

func facts(t *testing.T, c *usercore.Core) string {
	t.Helper()
	list, err := c.Describe(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, f := range list {
		fmt.Fprintf(&b, "%s: %s\n", f.Key, f.Value)
	}
	return b.String()
}

func TestDescribe(t *testing.T) {
	core := kernelCore(testimage.Core{})
	want := `kind: core of a user process
file: test.core
format: ELF64, little-endian
arch: amd64
made by: the Linux kernel (by its form)
pid: 4700
command: victim
arguments: ./victim -x
user: uid 1000, gid 1000
threads: 2
signal: SIGSEGV (11), code 1, address 0x7000
regions: 7
saved: 24576 bytes
not saved: 12288 bytes
`
	if d := cmp.Diff(want, facts(t, open(t, core.Bytes()))); d != "" {
		t.Error(d)
	}
}

func TestExplain(t *testing.T) {
	core := kernelCore(testimage.Core{})
	b := core.Bytes()
	c := open(t, b[:len(b)-page/2])
	for a, want := range map[remora.Addr]string{
		0x11010: `not saved in this dump: in 0x11000+0x1000 r-x "/bin/victim" at 0x1010: the core holds 0x0 of 0x1000 bytes`,
		0x52000: `not saved in this dump: in 0x50000+0x3000 rw- "[stack]": the core holds 0x2000 of 0x3000 bytes`,
		0x61800: fmt.Sprintf(`lost: the dump is cut off: in 0x61000+0x1000 ---: would be at %#x of the core, which ends at %#[1]x`, len(b)-page/2),
		0x70004: `not saved in this dump: in 0x70000+0x1000 "/tmp/gone" at 0x1004: the core names it and holds nothing of it`,
		0x20000: `not mapped`,
	} {
		_, err := c.Memory().Uint8(context.Background(), a)
		if want = "read test.core:" + a.String() + ": " + want; err == nil || err.Error() != want {
			t.Errorf("%v\nwant %v", err, want)
		}
	}
}

// TestUnlisted reads what gdb and Delve say nothing about.
func TestUnlisted(t *testing.T) {
	core := kernelCore(testimage.Core{Sections: 20, NotesLast: true})
	c := open(t, core.Bytes())
	if c.Maker() != usercore.GDB {
		t.Errorf("made by %v", c.Maker())
	}
	_, err := c.Memory().Uint8(context.Background(), 0x20000)
	if !errors.Is(err, remora.ErrFault) || errors.Is(err, remora.ErrUnmapped) || errors.Is(err, remora.ErrNotSaved) ||
		!strings.Contains(err.Error(), "gdb") {
		t.Error(err)
	}
	if s := facts(t, c); !strings.Contains(s, "limits: ") {
		t.Error(s)
	}
}

func delveCore() testimage.Core {
	c := testimage.Core{ProgsLast: true}
	c.Notes = []testimage.Note{
		testimage.DelveHeader("linux/amd64", 99, 0x401000),
		testimage.DelveThread(100, 0x401234, 0xc000010, 0xc000020, 0x7000,
			testimage.DelveReg{Name: "Rip", Bytes: []byte{0x34, 0x12, 0x40, 0, 0, 0, 0, 0}},
			testimage.DelveReg{Name: "Cs", Bytes: []byte{0x33, 0}},
			testimage.DelveReg{Name: "XMM0", Bytes: make([]byte, 16)}),
		testimage.DelveThread(101, 1, 2, 3, 4),
	}
	c.Loads = []testimage.Load{{Addr: 0xc000000, Data: fill(page, 9), Flags: elf.PF_R | elf.PF_W}}
	return c
}

func TestDelve(t *testing.T) {
	core := delveCore()
	b := core.Bytes()
	c := open(t, b)
	if c.Maker() != usercore.Delve || c.Process().PID != 99 {
		t.Errorf("made by %v, process %+v", c.Maker(), c.Process())
	}
	if s := facts(t, c); !strings.Contains(s, "made by: Delve 1.25.0 on linux/amd64\n") || !strings.Contains(s, "threads: 2\n") {
		t.Error(s)
	}
	list, err := c.Threads()
	if err != nil {
		t.Fatal(err)
	}
	want := []usercore.Thread{
		{ID: 100, PC: 0x401234, SP: 0xc000010, Regs: []usercore.Register{{Name: "rip", Value: 0x401234}, {Name: "cs", Value: 0x33}}, Raw: core.Notes[1].Desc},
		{ID: 101, PC: 1, SP: 2, Raw: core.Notes[2].Desc},
	}
	if d := cmp.Diff(want, list); d != "" {
		t.Error(d)
	}
	if v, err := c.Memory().Uint8(context.Background(), 0xc000001); err != nil || v != 10 {
		t.Errorf("%d, %v", v, err)
	}
	// Delve on Linux writes the kernel's notes too, without their owner.
	core.Notes = []testimage.Note{core.Notes[0], core.PRPSInfo(99, 0, "gopher", "/gopher"), core.PRStatus(100, 5, make([]uint64, 27)...)}
	for i := range core.Notes[1:] {
		core.Notes[i+1].Name = ""
	}
	c = open(t, core.Bytes())
	list, err = c.Threads()
	if p := c.Process(); err != nil || p.Command != "gopher" || len(list) != 1 || list[0].ID != 100 || len(list[0].Regs) != 27 {
		t.Errorf("%+v, %+v, %v", p, list, err)
	}
}

func TestBadFiles(t *testing.T) {
	dir := t.TempDir()
	core := kernelCore(testimage.Core{})
	with := func(change func(c *testimage.Core)) []byte {
		c := kernelCore(testimage.Core{})
		change(&c)
		return c.Bytes()
	}
	for name, tc := range map[string]struct {
		data []byte
		want error
	}{
		"empty":      {nil, remora.ErrUnrecognized},
		"text":       {[]byte("#!/bin/sh\necho this is not a core\n"), remora.ErrUnrecognized},
		"executable": {with(func(c *testimage.Core) { c.Type = elf.ET_EXEC }), remora.ErrUnrecognized},
		"vmcore": {with(func(c *testimage.Core) {
			c.Notes = append(c.Notes, testimage.Note{Name: "VMCOREINFO", Desc: []byte("OSRELEASE=6")})
		}), remora.ErrUnrecognized},
		"qemu": {with(func(c *testimage.Core) {
			c.Notes = append(c.Notes, testimage.Note{Name: "QEMU", Desc: []byte("x")})
		}), remora.ErrUnrecognized},
		"physical": {with(func(c *testimage.Core) {
			c.Notes = []testimage.Note{c.PRStatus(1, 0, make([]uint64, 32)...)}
			c.Loads = []testimage.Load{{Addr: 0x80000000, Paddr: 0x80000000, Data: []byte("x")}}
		}), remora.ErrUnrecognized},
		"machine": {with(func(c *testimage.Core) {
			c.Notes = []testimage.Note{c.PRStatus(1, 0, make([]uint64, 27)...)}
			c.Loads = []testimage.Load{{Addr: 0x80000000, Paddr: 0x80000000, Data: []byte("x")}}
		}), remora.ErrUnrecognized},
		"kcore": {with(func(c *testimage.Core) {
			c.Notes = append(c.Notes, testimage.Note{Name: "CORE", Type: 4, Desc: []byte("x")})
			c.Loads = []testimage.Load{{Addr: 0xffff888000000000, Data: []byte("x")}}
		}), remora.ErrUnrecognized},
		"cut in the magic":          {core.Bytes()[:3], remora.ErrUnrecognized},
		"cut in the header":         {core.Bytes()[:40], remora.ErrTruncated},
		"cut in the header table":   {core.Bytes()[:64+56*3], remora.ErrTruncated},
		"saved more than there was": {with(func(c *testimage.Core) { c.Loads[0].Mem = 5 }), remora.ErrCorrupt},
		"overlap":                   {with(func(c *testimage.Core) { c.Loads[1].Data = fill(page, 0); c.Loads[1].Addr = 0x10800 }), remora.ErrCorrupt},
		"past the last address":     {with(func(c *testimage.Core) { c.Loads[5].Addr = 1<<64 - page + 1 }), remora.ErrCorrupt},
		"too large for memory":      {with(func(c *testimage.Core) { c.Loads[1].Mem = 1<<64 - 1 }), remora.ErrCorrupt},
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, tc.data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := usercore.Open(path, nil)
		bad, ok := errors.AsType[*remora.FormatError](err)
		if c != nil || !ok || !errors.Is(err, tc.want) || bad.File != path || bad.Want == "" || bad.Got == "" {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	if _, err := usercore.Open(dir, nil); !errors.Is(err, remora.ErrUnrecognized) {
		t.Errorf("directory: %v", err)
	}
	if _, err := usercore.Open(filepath.Join(dir, "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// TestCut cuts a core at every byte of its headers and at some of its memory. It
// opens from the end of the headers on, with what is left.
func TestCut(t *testing.T) {
	for _, shape := range []testimage.Core{{}, {Narrow: true, Machine: elf.EM_386, BigEndian: true}} {
		core := kernelCore(shape)
		b := core.Bytes()
		whole := open(t, b)
		headers := 64 + 56*7
		if shape.Narrow {
			headers = 52 + 32*7
		}
		for n := 0; n < len(b); n++ {
			if n > headers+len(core.NoteBytes()) && n%509 != 0 {
				continue
			}
			c, err := usercore.New(bytes.NewReader(b[:n]), int64(n), "cut", nil)
			if (err == nil) != (n >= headers) {
				t.Fatalf("%d of %d bytes: %v", n, len(b), err)
			}
			if err != nil {
				if bad, ok := errors.AsType[*remora.FormatError](err); !ok || bad.Err != remora.ErrTruncated && n >= 4 {
					t.Fatalf("%d of %d bytes: %v", n, len(b), err)
				}
				continue
			}
			if n < headers+len(core.NoteBytes()) && !strings.Contains(facts(t, c), "problem: cut") {
				t.Errorf("%d of %d bytes: the notes are cut off, and nobody says so", n, len(b))
			}
			if n >= headers+len(core.NoteBytes()) {
				compare(t, whole, c, n, len(b))
			}
			c.Close()
		}
	}
}

// compare reads all of two cores, one of which is cut off.
func compare(t *testing.T, whole, cut *usercore.Core, n, of int) {
	t.Helper()
	lost := 0
	for a := remora.Addr(0x10000); a < 0x62000; a += page {
		if a == 0x13000 {
			a = 0x50000
		}
		var buf [2][page]byte
		n1, err1 := whole.Memory().ReadAt(context.Background(), buf[0][:], a)
		n2, err2 := cut.Memory().ReadAt(context.Background(), buf[1][:], a)
		if !bytes.Equal(buf[0][:n2], buf[1][:n2]) || n2 > n1 || n2 < n1 && !errors.Is(err2, remora.ErrTruncated) || n1 == n2 && (err1 == nil) != (err2 == nil) {
			t.Fatalf("%v: %d, %v; cut off: %d, %v", a, n1, err1, n2, err2)
		}
		lost += n1 - n2
	}
	if want := min(of-n, 6*page); lost != want {
		t.Errorf("%d of %d bytes: %d are lost", n, of, lost)
	}
}

type broken struct {
	io.ReaderAt
	from int64
}

var errDisk = errors.New("disk on fire")

func (b broken) ReadAt(p []byte, off int64) (int, error) {
	if off+int64(len(p)) <= b.from {
		return b.ReaderAt.ReadAt(p, off)
	}
	n := 0
	if off < b.from {
		n, _ = b.ReaderAt.ReadAt(p[:b.from-off], off)
	}
	return n, errDisk
}

func TestReadError(t *testing.T) {
	core := kernelCore(testimage.Core{})
	b := core.Bytes()
	c, err := usercore.New(broken{bytes.NewReader(b), int64(len(b) - 100)}, int64(len(b)), "bad.core", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var buf [page]byte
	n, err := c.Memory().ReadAt(context.Background(), buf[:], 0x61000)
	if n != page-100 || !errors.Is(err, remora.ErrIO) || !strings.HasSuffix(err.Error(), ": disk on fire") {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := usercore.New(broken{bytes.NewReader(b), 600}, int64(len(b)), "bad.core", nil); !errors.Is(err, errDisk) {
		t.Errorf("notes: %v", err)
	}
}

func TestClose(t *testing.T) {
	path := filepath.Join(t.TempDir(), "core")
	core := kernelCore(testimage.Core{})
	if err := os.WriteFile(path, core.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := usercore.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Memory().Uint8(context.Background(), 0x10000); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if _, err := c.Threads(); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if _, err := c.NoteData(c.Notes()[0]); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if _, err := c.Memory().WriteAt(context.Background(), []byte{1}, 0x10000); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
}
