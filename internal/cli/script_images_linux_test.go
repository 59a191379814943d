// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/remora-go/remora/internal/testimage"
)

// The machine that scripts have images of: a kernel at imageText, which lies at
// imageLoad, with its page tables behind it. Page 1 of physical memory holds text, page 2
// was left out, page 3 is lost in the images that can say so, and page 5 holds text again.
const (
	imageText = 0xffffffff81000000
	imageLoad = 0x4000000
	imageRoot = imageLoad + 0x2000

	imageBanner   = 0x1000  // from the start of the kernel: linux_banner
	imageKallsyms = 0x80000 // and the tables of symbols
)

// imageSymbols gives the symbols of the machine's kernel.
func imageSymbols() *testimage.Kallsyms {
	return &testimage.Kallsyms{Encoding: "place", Order: "7.0", Seqs: 3, Symbols: []testimage.KallsymsSymbol{
		{Addr: imageText, Type: 'T', Name: "_stext"},
		{Addr: imageText + 0x100, Type: 'T', Name: "start_kernel"},
		{Addr: imageText + 0x200, Type: 't', Name: "twice"},
		{Addr: imageText + 0x300, Type: 't', Name: "twice"},
		{Addr: imageText + 0x400, Type: 't', Name: "evil\x1b[2J"},
		{Addr: imageText + imageBanner, Type: 'R', Name: "linux_banner"},
		{Addr: imageText + 0xf0000, Type: 'B', Name: "_end"},
	}}
}

// machineMemory gives the memory of that machine.
func machineMemory(lost bool) *testimage.Physical {
	mem := &testimage.Physical{}
	mem.Set(1, bytes.Repeat([]byte("0123456789abcdef"), 256))
	mem.Set(2, nil)
	mem.Mark(2, 1, testimage.Excluded)
	mem.Set(3, []byte("a page that may be lost"))
	if lost {
		mem.Mark(3, 1, testimage.Lost)
	}
	mem.Set(5, []byte("page five"))
	t := testimage.NewTables(mem, testimage.TableModes()[0], imageRoot)
	for at := uint64(0); at < 1<<20; at += 4096 {
		t.Map(imageText+at, imageLoad+at, 4096)
	}
	t.Map(0xffff888000001000, 0x1000, 4096)
	t.Map(0xffff888000002000, 0x2000, 4096)
	t.Map(0xffff888040000000, 0x40000000, 1<<30)
	t.Map(0x401000, 0x5000, 4096)
	t.Set(0x402000, 1, 0x7fffffffffffc02)                 // swap type 0, offset 1
	t.Set(0x403000, 1, ^uint64(0x5000)&(1<<52-4096)|1<<8) // PROT_NONE, inverted
	t.Set(0x404000, 1, 0x2067)                            // maps the page that was left out
	mem.Write(imageLoad, []byte("the text of the kernel\x00"))
	mem.Write(imageLoad+imageBanner, []byte("Linux version 6.12.0-script (someone@somewhere)\n\x00"))
	tables, _ := imageSymbols().Put(imageText + imageKallsyms)
	mem.Write(imageLoad+imageKallsyms, tables)
	return mem
}

// imageInfo is the machine's VMCOREINFO.
var imageInfo = append([]byte("OSRELEASE=6.12.0-script\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff81000000\nSYMBOL(swapper_pg_dir)=ffffffff81002000\n"+
	"NUMBER(phys_base)=50331648\nNUMBER(pgtable_l5_enabled)=0\n"), imagePlaces()...)

// imagePlaces says where the tables of symbols are.
func imagePlaces() (text []byte) {
	_, places := imageSymbols().Put(imageText + imageKallsyms)
	for _, name := range slices.Sorted(maps.Keys(places)) {
		if name != "kallsyms_markers" && name != "kallsyms_seqs_of_names" {
			text = fmt.Appendf(text, "SYMBOL(%s)=%x\n", name, places[name])
		}
	}
	return text
}

// writeImage writes an image of the machine: "elf", "bare" without VMCOREINFO, "cr3" with
// registers instead, "evil" with text that no terminal should see, "log" with a log, "kdump" with a lost page,
// "lost" without the top page table, "flat", "lime", "raw" as memory from
// 0x4000000 on, or "split" into FILE.1, FILE.2 and FILE.3.
func writeImage(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "image FILE KIND")
	name, kind := ts.MkAbs(args[0]), args[1]
	mem := machineMemory(kind == "kdump")
	core := &testimage.Core{}
	status := core.PRStatus(7, 0, make([]uint64, 27)...)
	v := &testimage.VMCore{Mem: mem, Notes: []testimage.Note{status, testimage.VMCoreInfoNote(imageInfo)}}
	k := testimage.NewKdump(mem)
	k.VMCoreInfo, k.DumpLevel, k.Compress, k.Status = imageInfo, 31, testimage.Zlib, 1
	k.Utsname = []string{"Linux", "host", "6.12.0-script", "#1", "x86_64", ""}
	save := func(name string, data []byte) { ts.Check(os.WriteFile(name, data, 0o600)) }
	switch kind {
	case "elf":
		save(name, v.Bytes())
	case "types":
		addTypes(mem)
		save(name, v.Bytes())
	case "evil":
		v.Notes[1] = testimage.VMCoreInfoNote(append(imageInfo[:len(imageInfo):len(imageInfo)], "EVIL=\x1b[2J\n"...))
		save(name, v.Bytes())
	case "log":
		addLog(mem)
		v.Notes[1] = testimage.VMCoreInfoNote(append(imageInfo[:len(imageInfo):len(imageInfo)], imageLogInfo...))
		save(name, v.Bytes())
	case "bare":
		v.Notes = v.Notes[:1]
		save(name, v.Bytes())
	case "cr3":
		state := &testimage.QEMUState{}
		state.CR[3], state.CR[4] = imageRoot, 0x20
		v.Notes = []testimage.Note{status, state.Note()}
		save(name, v.Bytes())
	case "kdump":
		save(name, k.Bytes())
	case "lost":
		mem.Mark(imageRoot>>12, 1, testimage.Lost)
		mem.Write(imageLoad+0x40000+2*65, []byte("6.12.0-script\x00"))
		k.VMCoreInfo = append(imageInfo[:len(imageInfo):len(imageInfo)], "SYMBOL(init_uts_ns)=ffffffff81040000\nOFFSET(uts_namespace.name)=0\n"...)
		save(name, k.Bytes())
	case "flat":
		save(name, testimage.Flatten(k.Bytes(), testimage.FlatOptions{}))
	case "lime":
		save(name, mem.LiME(testimage.LiMEOptions{}))
	case "raw":
		save(name, mem.Raw(testimage.RawOptions{Base: imageLoad}))
	case "split":
		for i, data := range k.SplitFiles(3) {
			save(name+"."+strconv.Itoa(i+1), data)
		}
	default:
		ts.Fatalf("no kind %q", kind)
	}
}

// addTypes adds BTF to the kernel's image, and a task at imageText+0x30fc0, whose last
// bytes were left out.
func addTypes(mem *testimage.Physical) {
	b := &testimage.BTF{}
	s32, u64, char := b.Int("int", 4, true), b.Int("long unsigned int", 8, false), b.Int("char", 1, true)
	member := func(name string, typ uint32, at uint64) testimage.BTFMember {
		return testimage.BTFMember{Name: name, Type: typ, Bit: 8 * at}
	}
	ptr := b.Pointer(b.Count() + 1)
	list := b.Struct("list_head", 16, member("next", ptr, 0), member("prev", ptr, 8))
	state := b.Enum("state", 4, true, testimage.BTFMember{Name: "RUNNING"}, testimage.BTFMember{Name: "DEAD", Bit: 1<<64 - 1})
	b.Struct("task_struct", 112,
		member("pid", b.Typedef("pid_t", s32), 0), member("state", state, 4), member("comm", b.Array(char, 16), 8),
		testimage.BTFMember{Name: "low", Type: s32, Bit: 24*8 + 2, Bits: 3},
		member("", b.Union("", 8, member("flags", u64, 0), member("text", b.Pointer(b.Const(char)), 0)), 32),
		member("many", b.Array(s32, 4), 40), member("tasks", list, 56), member("end", u64, 72))
	b.Struct("node", 4, member("first", s32, 0))
	b.Struct("node", 8, member("second", u64, 0))
	b.Struct("evil\x1b[2J", 4, member("escape\x1b[2J", s32, 0))
	mem.Write(imageLoad+0x10000, b.Bytes())
	task := make([]byte, 0x40)
	binary.LittleEndian.PutUint32(task, ^uint32(6))
	binary.LittleEndian.PutUint32(task[4:], ^uint32(0))
	copy(task[8:], "init\x1b[2J")
	task[24] = 5<<2 | 1
	binary.LittleEndian.PutUint64(task[32:], 0xffffffff81000010)
	for i := range 4 {
		task[40+4*i] = byte(i)
	}
	binary.LittleEndian.PutUint64(task[56:], 0xffffffff81030fc0)
	mem.Write(imageLoad+0x30fc0, task)
	mem.Set((imageLoad+0x31000)>>12, nil)
	mem.Mark((imageLoad+0x31000)>>12, 1, testimage.Excluded)
}

// damageFile changes bytes of a file, or cuts it off.
func damageFile(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, "damage FILE OFFSET TEXT|cut")
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR, 0)
	ts.Check(err)
	defer f.Close()
	at := int64(number64(ts, args[1]))
	if args[2] == "cut" {
		ts.Check(f.Truncate(at))
		return
	}
	_, err = f.WriteAt([]byte(args[2]), at)
	ts.Check(err)
}

// digest takes down what files hold; the second time it wants them to hold the same.
func digest(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "unchanged FILE...")
	for _, name := range args {
		data, err := os.ReadFile(ts.MkAbs(name))
		ts.Check(err)
		sum := fmt.Sprintf("%x", sha256.Sum256(data))
		key := "sum_" + name
		if old := ts.Getenv(key); old != "" && old != sum {
			ts.Fatalf("%s was changed", name)
		}
		ts.Setenv(key, sum)
	}
}

// fifo makes a FIFO.
func fifo(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "fifo FILE")
	ts.Check(syscall.Mkfifo(ts.MkAbs(args[0]), 0o600))
}
