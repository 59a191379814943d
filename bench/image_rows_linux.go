// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/remora-go/remora/bench/internal/measure"
)

// Names of sides.
const (
	byKdump    = "libkdumpfile"
	byClones   = "libkdumpfile, two clones"
	byDrgn     = "drgn"
	byCrash    = "crash"
	byMemory   = "memcpy of the mapping"
	byFile     = "pread"
	byLoads    = "loads from the mapping"
	byInflate  = "klauspost/compress"
	byDeflate  = "libdeflate"
	byDeflate2 = "libdeflate, two threads"
	byTrue     = "start of /bin/true"
)

// in is a side that Remora's program is.
func (b *images) in(how, format string, args ...any) measure.Side {
	return measure.Side{Name: "Remora", How: how, By: b.go_, Work: fmt.Sprintf(format, args...)}
}

// kdump is a side that libkdumpfile is, in C.
func (b *images) kdump(how, format string, args ...any) measure.Side {
	return measure.Side{Name: byKdump, How: how, By: b.c, Work: fmt.Sprintf(format, args...)}
}

// python3 is a side that drgn is.
func (b *images) python3(how, format string, args ...any) measure.Side {
	return measure.Side{Name: byDrgn, How: how, By: b.drgn, Work: fmt.Sprintf(format, args...)}
}

// limit is a limit of the machine, in C.
func (b *images) limit(name, how, format string, args ...any) measure.Side {
	return measure.Side{Name: name, How: how, By: b.c, Work: fmt.Sprintf(format, args...), Other: true}
}

// goal holds a row against those who read the same image.
func (m *image) goal(ratio float64, by ...string) []measure.Goal {
	if m.peers != m.path {
		return nil
	}
	return goal(ratio, by...)
}

// why is what a row says of itself, and what is true of all rows of a flattened image.
func (m *image) why(text string) string {
	if m.peers != m.path {
		text += " A flattened image has its pieces one behind the other, and all their headers are read before any is used. drgn and libkdumpfile open no such image: they have that of the same moment by zlib."
	}
	return text
}

func goal(ratio float64, by ...string) []measure.Goal {
	return []measure.Goal{{By: by, Ratio: ratio}}
}

// openRows open an image, and read something of it at once. All files are in the page cache.
func (b *images) openRows() []measure.Row {
	var rows []measure.Row
	first := b.content.runs[0].Start
	for _, m := range []*image{b.elf, b.zlib, b.flat} {
		rows = append(rows, measure.Row{
			Name: "open and 8 bytes, " + m.name,
			Work: "an image is opened, 8 bytes of physical memory are read, and it is closed",
			Sides: []measure.Side{
				b.in("vmcore.Open, Memory.ReadAt", "open %s %#x", m.path, uint64(first)),
				b.kdump("kdump_open_fd, kdump_read, KDUMP_MACHPHYSADDR"+m.on(), "open %s %#x", m.peers, uint64(first)),
			},
			Why: m.why("Opening is a dozen system calls. Remora checks headers and notes that libkdumpfile takes as they are."),
		})
	}
	for _, m := range []*image{b.elf, b.zlib} {
		rows = append(rows, measure.Row{
			Name:  "open and 8 bytes of the kernel, " + m.name,
			Work:  "an image is opened, its page tables are found, and 8 bytes are read at an address of the kernel",
			Sides: []measure.Side{b.in("target.Open, Memory.ReadAt", "kernel %s %#x", m.path, uint64(b.banner)), b.kdump("kdump_open_fd, kdump_read, KDUMP_KVADDR", "kernel %s %#x", m.path, uint64(b.banner))},
			Why:   "Remora proves the page tables by what they must map before it believes VMCOREINFO.",
		})
	}
	for _, m := range b.all {
		rows = append(rows, measure.Row{
			Name: "first byte of the kernel, " + m.name, Wide: true,
			Work:  "an image is opened, and the byte at the symbol linux_banner is read, in a process that did it before",
			Sides: []measure.Side{b.in("target.Open, Kernel.Symbol, Memory.Uint8", "first %s linux_banner", m.path), b.python3("set_core_dump, load_debug_info of the vmlinux, prog[name]"+m.on(), "first %s %s linux_banner", m.peers, b.debug)},
			Goals: m.goal(0.2, byDrgn),
			Why:   "Remora finds the name in the kernel's own table, in the image, and looks whether a module has it, too." + m.why(" drgn reads debugging information."),
		})
	}
	return rows
}

// whole gives what is run to its end each time.
func whole(what func([]byte) (string, error), args ...string) *measure.Command {
	return &measure.Command{Args: args, What: what}
}

// commands is a row of whole processes: Remora, drgn, and one that does nothing.
func (b *images) commands(m *image, name, work, why string, what func([]byte) (string, error), ratio float64, remora []string, python ...string) measure.Row {
	r := measure.Row{Name: name + ", whole processes, " + m.name, Work: work, Wide: true, Why: why}
	ours := whole(what, append([]string{b.command}, remora...)...)
	theirs := whole(what, append([]string{b.python, b.script, python[0], m.peers, b.debug}, python[1:]...)...)
	if python[0] == "ps" {
		theirs.What = linesOf
	}
	r.Sides = []measure.Side{
		{Name: "Remora", How: fmt.Sprintf("remora %s IMAGE", remora[0]), By: ours},
		{Name: byDrgn, How: "a program of Python with the vmlinux" + m.on(), By: theirs},
		{Name: byTrue, How: "/bin/true", By: whole(nil, "/bin/true"), Other: true},
	}
	if ratio > 0 {
		r.Goals = m.goal(ratio, byDrgn)
	}
	r.Why = m.why(r.Why)
	return r
}

// wholeRows run commands to their end.
func (b *images) wholeRows() []measure.Row {
	var rows []measure.Row
	for _, m := range b.all {
		rows = append(rows,
			b.commands(m, "first byte of the kernel", "a command opens an image, and prints the byte at the symbol linux_banner", "What remains is mostly the start of a process of Go.",
				byteOf, 0.2, []string{"read", m.path, "linux_banner", "-n", "1"}, "first", "linux_banner"),
			b.commands(m, "ps", "a command opens an image, and lists all processes", "What remains is the start of the process, and the types of the kernel that say where the fields are.",
				processesOf, 0.25, []string{"ps", m.path}, "ps"))
	}
	for _, m := range []*image{b.elf, b.zlib} {
		rows = append(rows, b.commands(m, "one symbol", "a command opens an image, and prints the address of vfs_read", "What remains is mostly the start of a process of Go.",
			symbolOf, 0, []string{"sym", m.path, "vfs_read"}, "symbol", "vfs_read"))
	}
	return append(rows, b.crashRows()...)
}

// crashRows hold whole processes against crash, which takes some seconds to start.
func (b *images) crashRows() []measure.Row {
	row := func(m *image, name, work, in string, what, theirs func([]byte) (string, error), remora []string, crash ...string) measure.Row {
		c := whole(theirs, append([]string{byCrash, "-s"}, append(crash, b.debug, m.path)...)...)
		c.In = in + "quit\n"
		return measure.Row{
			Name: name + ", by crash, " + m.name, Work: work, Wide: true,
			Sides: []measure.Side{
				{Name: "Remora", How: "remora " + remora[0] + " IMAGE", By: whole(what, append([]string{b.command}, remora...)...)},
				{Name: byCrash, How: fmt.Sprintf("crash -s %v VMLINUX IMAGE, and the command %q", crash, in), By: c},
			},
			Goals: goal(0.02, byCrash),
		}
	}
	var rows []measure.Row
	for _, m := range []*image{b.elf, b.zlib} {
		rows = append(rows, row(m, "first byte of the kernel", "a command opens an image, and prints the byte at the symbol linux_banner",
			"rd -8 linux_banner 1\n", byteOf, byteOf, []string{"read", m.path, "linux_banner", "-n", "1"}, "--minimal"))
	}
	// Its own list of processes lacks most of those of this kernel, which is newer.
	return append(rows, row(b.zlib, "ps", "a command opens an image, and lists all processes: crash only their numbers and where they are",
		"list -h init_task task_struct.tasks -S task_struct.pid\n", tasksOf, crashTasks, []string{"ps", b.zlib.path}))
}

// symbolRows look up symbols in one process.
func (b *images) symbolRows() []measure.Row {
	var rows []measure.Row
	for _, m := range b.all {
		rows = append(rows,
			measure.Row{
				Name: "open and one symbol, " + m.name, Wide: true, Work: "an image is opened, and the address of vfs_read is found",
				Sides: []measure.Side{b.in("target.Open, Kernel.Symbol", "symbol %s vfs_read", m.path), b.python3("set_core_dump, load_debug_info, prog.symbol"+m.on(), "symbol %s %s vfs_read", m.peers, b.debug)},
				Why:   "A name is found by halves in the sorted names of the kernel; each probe unpacks one.",
			},
			measure.Row{
				Name: "open and all symbols, " + m.name, Wide: true, Work: "an image is opened, and all symbols are listed: 88,000 in the kernel, 119,000 in its file",
				Sides: []measure.Side{b.in("target.Open, Symbols.All", "symbols %s %s", m.path, b.names), b.python3("set_core_dump, load_debug_info, prog.symbols"+m.on(), "symbols %s %s %s", m.peers, b.debug, b.names)},
				Why:   "Remora unpacks every name from the kernel's compressed table. drgn has them unpacked, in a table of the file.",
			})
	}
	for _, m := range []*image{b.elf, b.zlib} {
		rows = append(rows, measure.Row{
			Name: "256 symbols, " + m.name, Work: "the addresses of 256 functions are found, one at a time, in a kernel that is open",
			Sides: []measure.Side{b.in("Kernel.Symbol", "lookup %s %s", m.path, b.some), b.python3("prog.symbol", "lookup %s %s %s", m.path, b.debug, b.some)},
			Why:   "Names stay in the image, and are unpacked for each search. drgn goes through the table of the file for each.",
		})
	}
	return rows
}

// taskRows are about processes, in one process that has the image open.
func (b *images) taskRows() []measure.Row {
	var rows []measure.Row
	for _, m := range b.all {
		rows = append(rows, measure.Row{
			Name: "ps, " + m.name, Work: "all processes are listed, with number, parent and name, in a kernel that is open", Guard: m == b.elf,
			Sides: []measure.Side{b.in("Kernel.Tasks", "ps %s", m.path), b.python3("for_each_task"+m.on(), "ps %s %s", m.peers, b.debug)},
			Why:   "Remora reads whole tasks, and of each also what ps prints further: some 4 us a task, a quarter of them in the moving of bytes.",
		}, measure.Row{
			Name: "8 MiB of a process, " + m.name, Work: "8 MiB of a process are read into a buffer that was used before", Bytes: int64(b.anon.Size),
			Sides: []measure.Side{
				b.in("Memory.ReadAt", "process %s %d %#x %d", m.path, b.main, uint64(b.anon.Start), b.anon.Size),
				b.python3("access_process_vm"+m.on(), "process %s %s %d %#x %d", m.peers, b.debug, b.main, uint64(b.anon.Start), b.anon.Size),
			},
			Why: "The pages lie anywhere in physical memory: each is a piece of its own. Those of a compressed image are kept inflated.",
		})
	}
	return append(rows, measure.Row{
		Name: "2,000 mappings, ELF", Work: "what a process has mapped is listed, in a kernel that is open",
		Sides: []measure.Side{b.in("Process.Regions", "mappings %s %d", b.elf.path, b.areas), b.python3("a walk over the maple tree", "mappings %s %s %d", b.elf.path, b.debug, b.areas)},
		Why:   "Remora also says what each mapping is of.",
	})
}
