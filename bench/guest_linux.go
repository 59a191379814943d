// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/bench/internal/measure"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/target"
)

// guestBytes is the memory of a guest that runs nothing, and guestFrom the address from
// which on it is read.
const (
	guestBytes = 256 << 20
	guestFrom  = 16 << 20
)

// guests is what the rows about the memory of guests of QEMU share.
type guests struct {
	*site
	random *rand.Rand
	c      *measure.Program
	qmp    *measure.Program
	remora map[string]*measure.Program
}

// standing is a guest whose processor stands still.
type standing struct {
	kind string
	host remora.Addr
	pid  int
	qmp  map[string]string // a socket for each that keeps one
	stub string
	gdb  *measure.Program
}

// guestPlayers are Remora with one thread and with two.
func guestPlayers() []string { return []string{"guest", "guest-2"} }

func guestRows(s *site) ([]measure.Row, error) {
	g := &guests{site: s, random: rand.New(rand.NewPCG(1, 2)), remora: map[string]*measure.Program{}}
	var err error
	if g.c, err = s.compiled("guest.c"); err != nil {
		return nil, err
	}
	if g.qmp, err = s.python("qmp.py"); err != nil {
		return nil, err
	}
	for _, name := range guestPlayers() {
		if g.remora[name], err = s.player(name); err != nil {
			return nil, err
		}
	}
	shared, err := g.standing("shared", "-M", "pc,memory-backend=ram", "-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%d,share=on", guestBytes))
	if err != nil {
		return nil, err
	}
	private, err := g.standing("private")
	if err != nil {
		return nil, err
	}
	var rows []measure.Row
	for _, add := range []func(*standing) ([]measure.Row, error){g.bulkRows, g.wordRows, g.vectorRows} {
		for _, v := range []*standing{shared, private} {
			more, err := add(v)
			if err != nil {
				return nil, err
			}
			rows = append(rows, more...)
		}
	}
	if !g.wants(psOf) {
		return rows, nil
	}
	ps, err := g.psRows()
	return append(rows, ps...), err
}

// standing starts a guest without a kernel and fills its memory.
func (g *guests) standing(kind string, args ...string) (*standing, error) {
	dir := g.TempDir()
	v := &standing{kind: kind, stub: filepath.Join(dir, "stub"), qmp: map[string]string{}}
	args = append([]string{"-S", "-m", fmt.Sprint(guestBytes >> 20), "-chardev", "socket,id=stub,path=" + v.stub + ",server=on,wait=off", "-gdb", "chardev:stub"}, args...)
	for _, who := range append(guestPlayers(), "qmp.py") {
		v.qmp[who] = filepath.Join(dir, who)
		args = append(args, "-qmp", "unix:"+v.qmp[who]+",server=on,wait=off")
	}
	q := vmlab.StartBare(g, args...)
	v.pid = q.PID()
	if err := g.fill("qemu:"+q.QMP()+"@phys", guestBytes); err != nil {
		return nil, err
	}
	p, err := proc.Open(v.pid, nil)
	if err != nil {
		return nil, err
	}
	defer p.Close()
	for r, err := range p.Regions(context.Background()) {
		if err == nil && r.Size == guestBytes {
			v.host = r.Start
			v.gdb, err = g.gdb()
			return v, err
		}
	}
	return nil, errors.New("QEMU has no mapping of the size of its guest's memory")
}

// fill writes bytes that are not alike to the memory of a guest.
func (g *guests) fill(spec string, size remora.Addr) (err error) {
	x, err := target.Open(context.Background(), spec, &target.Options{Write: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	noise := rand.NewChaCha8([32]byte{})
	b := make([]byte, 1<<20)
	for at := remora.Addr(1 << 20); at < size; at += remora.Addr(len(b)) {
		noise.Read(b)
		if _, err := x.Memory().WriteAt(context.Background(), b, at); err != nil {
			return err
		}
	}
	return nil
}

// python starts a side that is written in Python.
func (s *site) python(name string) (*measure.Program, error) {
	path, err := s.peer(name)
	if err != nil {
		return nil, err
	}
	return s.start("python3", path)
}

// gdb starts gdb for rows about stubs.
func (s *site) gdb() (*measure.Program, error) {
	path, err := s.peer("stub.py")
	if err != nil {
		return nil, err
	}
	return s.start("gdb", "-q", "-batch", "-nx", "-ex", fmt.Sprintf("python import sys; sys.path.insert(0, %q); import stub", filepath.Dir(path)))
}

// ranges writes a file of ranges.
func (s *site) ranges(all ...remora.Range) (string, error) {
	var b strings.Builder
	for _, r := range all {
		fmt.Fprintf(&b, "%#x %d\n", uint64(r.Start), r.Size)
	}
	name := filepath.Join(s.TempDir(), "ranges")
	return name, os.WriteFile(name, []byte(b.String()), 0o600)
}

// What the sides are called.
const (
	rawCall  = "process_vm_readv in C"
	rawMap   = "kept mapping in C"
	localRAM = "memcpy of the same size"
)

// sides are Remora, and what C does with QEMU's process.
func (g *guests) sides(v *standing, player, do, file string) []measure.Side {
	verb := map[string]string{"ranges": "", "next": "word"}[do]
	what := fmt.Sprintf("%d %#x %s", v.pid, uint64(v.host), file)
	all := []measure.Side{
		{Name: "Remora", How: "Memory.ReadV of qemu:SOCKET@phys", By: g.remora[player], Work: do + " qemu:" + v.qmp[player] + "@phys " + file},
		{Name: rawCall, How: "process_vm_readv of QEMU's process, where its address of guest memory is known", By: g.c, Work: "vm" + verb + " " + what},
	}
	if v.kind == "shared" {
		all = append(all, measure.Side{Name: rawMap, How: "mmap of QEMU's memfd by /proc/PID/fd, kept; memcpy", By: g.c, Work: "map" + verb + " " + what})
	}
	return all
}

const (
	whyShared  = "Memory that QEMU shares is mapped once and copied; each call looks before and after it whether QEMU is still there."
	whyPrivate = "The kernel looks up and pins every page that it copies; what remains above it is the check after each call that the process is still the one that was opened. " +
		"Many ranges are also placed in QEMU's memory one by one, some 40 ns each. The caches hold 4 MiB, and do not hold 64."
)

// bulkRows read one range.
func (g *guests) bulkRows(v *standing) ([]measure.Row, error) {
	var rows []measure.Row
	for _, mib := range []int{4, 16, 64} {
		size := uint64(mib << 20)
		file, err := g.ranges(remora.Range{Start: guestFrom, Size: size})
		if err != nil {
			return nil, err
		}
		r := measure.Row{
			Name: fmt.Sprintf("%s memory, %d MiB", v.kind, mib), Bytes: int64(size),
			Work:   fmt.Sprintf("one range of guest-physical memory that QEMU has in %s memory is read", v.kind),
			Series: fmt.Sprintf("a guest's %s memory, one thread", v.kind), X: float64(mib),
			Sides: g.sides(v, "guest", "ranges", file), Guard: mib == 4,
		}
		if v.kind == "shared" {
			r.Sides = append(r.Sides, measure.Side{Name: localRAM, How: "memcpy", By: g.c, Work: fmt.Sprint("copy ", size), Other: true})
			r.Goals, r.Why = []measure.Goal{{By: []string{localRAM}, Ratio: 1 / 0.9}}, whyShared
		} else {
			r.Goals, r.Why = []measure.Goal{{By: []string{rawCall}, Ratio: 1 / 0.95}}, whyPrivate
		}
		if mib == 16 {
			r.Sides = append(r.Sides,
				measure.Side{Name: "QMP pmemsave", How: "pmemsave to /dev/shm on a socket that is kept, and a read of the file (Python)", By: g.qmp, Work: fmt.Sprintf("pmemsave %s %#x %d", v.qmp["qmp.py"], guestFrom, size)},
				measure.Side{Name: "gdb on the stub", How: "dump binary memory, with Qqemu.PhyMemMode:1", By: v.gdb, Work: fmt.Sprintf("dump %s %#x %d", v.stub, guestFrom, size), Most: 1})
		}
		rows = append(rows, r)
		if mib == 4 || v.kind == "shared" { // what is mapped is copied by the caller's own thread
			continue
		}
		two := r
		two.Name += ", two threads"
		two.Series, two.Wide, two.Guard, two.Goals = fmt.Sprintf("a guest's %s memory, two threads", v.kind), true, false, nil
		two.Sides = g.sides(v, "guest-2", "ranges", file)
		two.Sides[0].How = "Memory.ReadV of qemu:SOCKET@phys, opened with Parallel: 2"
		rows = append(rows, two)
	}
	return rows, nil
}

// words gives as many words of a guest with so much memory, each on a page of its own.
func (g *guests) words(n, size int) (string, error) {
	const page, word = 4096, 8
	var all []remora.Range
	for _, p := range g.random.Perm((size - guestFrom) / page)[:n] {
		all = append(all, remora.Range{Start: guestFrom + remora.Addr(p*page+g.random.IntN(page/word)*word), Size: word})
	}
	return g.ranges(all...)
}

// wordRows read eight bytes, which are other ones each time.
func (g *guests) wordRows(v *standing) ([]measure.Row, error) {
	file, err := g.words(256, guestBytes)
	if err != nil {
		return nil, err
	}
	r := measure.Row{
		Name: v.kind + " memory, 8 bytes", Work: "eight bytes of guest-physical memory are read, of another page each time", Bytes: 8,
		Sides: append(g.sides(v, "guest", "next", file),
			measure.Side{Name: "HMP xp", How: "xp /1gx by human-monitor-command on a socket that is kept (Python)", By: g.qmp, Work: "xp " + v.qmp["qmp.py"] + " " + file},
			measure.Side{Name: "gdb on the stub", How: "Inferior.read_memory of gdb's Python, with Qqemu.PhyMemMode:1", By: v.gdb, Work: "word " + v.stub + " " + file}),
		Guard: v.kind == "private", Why: whyPrivate, // a copy of 8 bytes alone is held against no call
		Goals: []measure.Goal{{By: []string{rawCall}, Ratio: 1, Plus: 250 * time.Nanosecond}},
	}
	if v.kind == "shared" {
		r.Sides = append(r.Sides, measure.Side{Name: "getppid", How: "a system call that does nothing, in C", By: g.c, Work: "getppid", Other: true})
		r.Goals, r.Why = []measure.Goal{{By: []string{rawMap}, Ratio: 1, Plus: 60 * time.Nanosecond}, {By: []string{"getppid"}, Ratio: 0.5}}, whyShared
	}
	return []measure.Row{r}, nil
}

// vectorRows read many words with one call.
func (g *guests) vectorRows(v *standing) ([]measure.Row, error) {
	var rows []measure.Row
	for _, n := range []int{1024, 4096, 16384} {
		file, err := g.words(n, guestBytes)
		if err != nil {
			return nil, err
		}
		r := measure.Row{
			Name: fmt.Sprintf("%s memory, %d ranges", v.kind, n), Work: "ranges of eight bytes, each on a page of its own, are read with one call",
			Series: fmt.Sprintf("ranges of a guest's %s memory", v.kind), X: float64(n),
			Sides: g.sides(v, "guest", "ranges", file), Guard: n == 1024, Why: whyPrivate,
			Goals: []measure.Goal{{By: []string{rawCall}, Ratio: 1.1}},
		}
		if v.kind == "shared" {
			r.Why = whyShared
		}
		if n == 1024 {
			r.Sides = append(r.Sides,
				measure.Side{Name: "HMP xp", How: "xp /1gx of each, 64 asked for before the first is answered (Python)", By: g.qmp, Work: "xps " + v.qmp["qmp.py"] + " " + file, Most: 1},
				measure.Side{Name: "gdb on the stub", How: "Inferior.read_memory of each", By: v.gdb, Work: "words " + v.stub + " " + file, Most: 1})
		}
		rows = append(rows, r)
	}
	return rows, nil
}
