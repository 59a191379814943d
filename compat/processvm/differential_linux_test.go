// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package processvm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/access"
	"github.com/remora-go/remora/internal/difftest"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/testneed"
)

// The differential test has a process make random calls to process_vm_readv and
// process_vm_writev, with whatever a register can hold, and a System make the same
// calls over memtest.Sparse copies of the same layouts: of the caller's own, and of
// its target's. Counts, error numbers and every byte of both must come out the same.
// REMORA_CALLS says how many calls. See difftest for what else may be said.
//
// With REMORA_YAMA, kernel.yama.ptrace_scope gets that value once the test has hold of all
// processes, and the engine decides from what /proc says of them who may: root, and a
// user who has the same ids as one of two targets.
//
// It is for one architecture, as the size of registers matters, and what the
// processor lets a process do to its own memory.

const diffCalls = 12000

func TestDifferential(t *testing.T) {
	if linux.ForcedWrite() != 0 {
		testneed.Lacks(t, "/proc/PID/mem heeds protections on this kernel: nothing else can look at such memory")
	}
	run := difftest.Begin(t, "REMORA_CALLS", diffCalls)
	scope, judged := os.LookupEnv("REMORA_YAMA")
	var workers [difftest.Workers]*diffWorker
	var work []func(int, int) error
	for i := range workers {
		workers[i] = newDiffWorker(t, run.Seed, judged && i > 0)
		work = append(work, workers[i].layout)
	}
	if judged {
		if err := os.WriteFile("/proc/sys/kernel/yama/ptrace_scope", []byte(scope), 0); err != nil {
			t.Fatal(err)
		}
		for _, w := range workers {
			w.subjects(t)
		}
	}
	run.Layouts(t, work...)
	all := workers[0].newCover()
	for _, w := range workers {
		all.merge(w.cover)
	}
	text, missing := all.print()
	if judged { // what is refused is not moved
		missing = nil
		if all.refused == 0 && scope != "0" || all.moved == 0 {
			t.Errorf("%d calls were refused, %d bytes moved", all.refused, all.moved)
		}
	}
	run.Covered(t, text, missing)
}

// diffWorker has a caller and two targets of its own.
type diffWorker struct {
	seed    uint64
	lacking map[int]bool
	caller  *diffSide
	targets [2]*diffSide // the second one's first thread has ended
	tids    [2]int       // a thread of each besides
	gen     diffGen
	sys     *System
	self    *Process // the caller, as its own loads and stores find it
	cover   *diffCover
}

// newDiffWorker starts the processes: as this one, or as users without capabilities.
func newDiffWorker(t *testing.T, seed uint64, users bool) *diffWorker {
	var as [3]*specimen.Identity
	if users {
		one, other := specimen.Identity{UID: 1000, GID: 1000}, specimen.Identity{UID: 1001, GID: 1001}
		as = [3]*specimen.Identity{&one, &one, &other}
	}
	w := &diffWorker{seed: seed, sys: NewSystem(nil)}
	w.caller = newDiffSide(t, &specimen.Options{Seed: seed, As: as[0]}, false)
	w.caller.caller = true
	w.lacking = difftest.Lacking(t, w.caller.child)
	limit := diffLimit(t)
	w.sys.opt.UserEnd = uint64(limit)
	w.sys.opt.ExecuteOnly, w.sys.opt.ArrayFirst = diffExecuteOnly(t), diffBefore(t, 6, 4)
	w.caller.limit, w.caller.executeOnly = limit, w.sys.opt.ExecuteOnly
	tid := diffThread(t, w.caller.child)
	for i := range w.targets {
		w.targets[i] = newDiffSide(t, &specimen.Options{Seed: seed + uint64(i) + 1, As: as[1+i]}, i == 1)
		w.targets[i].limit, w.targets[i].executeOnly = limit, w.sys.opt.ExecuteOnly
		w.tids[i] = diffThread(t, w.targets[i].child)
	}
	zombie := specimentest.Start(t, nil)
	if err := zombie.Exit(); err != nil {
		t.Fatal(err)
	}
	w.gen = diffGen{caller: w.caller, ids: diffIDs{callerThread: tid, zombie: zombie.Pid(), kernel: diffKernelThread()}}
	if w.gen.ids.kernel == 0 {
		t.Log("process 2 is no thread of the kernel's: no call is made about one")
	}
	w.cover = w.newCover()
	return w
}

func (w *diffWorker) newCover() *diffCover {
	lacking := maps.Clone(w.lacking)
	lacking[diffSwapped] = lacking[difftest.Number(specimen.PagedOut)]
	for _, s := range []*diffSide{w.caller, w.targets[0], w.targets[1]} {
		lacking[diffVdso] = lacking[diffVdso] || len(s.vdso) == 0
		lacking[diffVvar] = lacking[diffVvar] || len(s.vvar) == 0
		for _, r := range s.taken { // without randomization it is the stack
			lacking[diffTop] = lacking[diffTop] || r.Last() >= s.limit-2*diffPage && r.Start < s.limit
		}
	}
	return newDiffCover(lacking, w.gen.ids.kernel != 0, &w.sys.opt)
}

// subjects has the engine decide who may.
func (w *diffWorker) subjects(t *testing.T) {
	root := os.DirFS("/proc")
	w.sys.opt.Facts = access.GatherFacts(root)
	for _, s := range []*diffSide{w.caller, w.targets[0], w.targets[1]} {
		subject, err := access.Gather(root, s.task)
		if err != nil {
			t.Fatal(err)
		}
		s.subject = &subject
	}
}

// newDiffSide starts a process without a layout; if ended, its first thread ends.
func newDiffSide(t *testing.T, o *specimen.Options, ended bool) *diffSide {
	t.Helper()
	s := &diffSide{child: specimentest.Start(t, o), ended: ended}
	s.task = s.child.Pid()
	if ended {
		s.task = diffThread(t, s.child)
		if err := s.child.EndLeader(); err != nil {
			t.Fatal(err)
		}
	}
	s.mem, s.pagemap = diffFile(t, s.task, "mem"), diffFile(t, s.task, "pagemap")
	if err := s.survey(); err != nil {
		t.Fatal(err)
	}
	return s
}

func diffThread(t *testing.T, s *specimen.Specimen) int {
	t.Helper()
	tid, err := s.Thread()
	if err != nil {
		t.Fatal(err)
	}
	return tid
}

func diffFile(t *testing.T, pid int, name string) *os.File {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/%s", pid, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// diffLimit finds where the addresses end that a caller may name, whatever is there: an
// empty element beyond it is refused (R9). It is a page less than the processor has.
func diffLimit(t *testing.T) remora.Addr {
	t.Helper()
	s := specimentest.Start(t, nil)
	desk, err := s.Map(specimen.Touched, 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range [...]uint64{1<<47 - diffPage, 1<<56 - diffPage, 1<<63 - diffPage, 1<<63 - 1} {
		c := specimen.VMCall{Pid: mostPid + 1, Local: uint64(desk.Start), LocalCount: 2}
		vec := encode([]Iovec{{limit + 1, 0}, {uint64(desk.Start), 1}})
		n, e, err := s.VMCall(&c, specimen.Store{Addr: desk.Start, Data: vec})
		if err != nil {
			t.Fatal(n, e, err)
		}
		if e == linux.EFAULT {
			return remora.Addr(limit)
		}
	}
	t.Fatal("a caller may name addresses of the upper half")
	return 0
}

// diffBefore says whether the running kernel is older than a release.
func diffBefore(t *testing.T, major, minor int) bool {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	var has [2]int
	if _, err := fmt.Sscanf(string(text), "%d.%d", &has[0], &has[1]); err != nil {
		t.Fatal(err)
	}
	return slices.Compare(has[:], []int{major, minor}) < 0
}

// diffExecuteOnly finds whether a process cannot load from its own memory that it may only
// execute: the kernel sees to that where the processor has protection keys.
func diffExecuteOnly(t *testing.T) bool {
	t.Helper()
	s := specimentest.Start(t, nil)
	r, err := s.Map(specimen.ExecOnly, 1)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Peek(make([]byte, 1), r.Start)
	if err != nil && !errors.Is(err, linux.EFAULT) {
		t.Fatal(err)
	}
	return err != nil
}

// layout makes a layout on each side and runs calls over them. All that is random
// about it comes from the seed and its number.
func (w *diffWorker) layout(number, calls int) error {
	rnd := rand.New(rand.NewPCG(w.seed, uint64(number)))
	shape := diffSome
	switch {
	case number%16 == 5:
		shape = diffLarge
	case number%4 == 1:
		shape = diffEvery
	}
	i := diffBit(number%3 == 2)
	g := &w.gen
	g.rnd, g.target, g.large = rnd, w.targets[i], shape == diffLarge
	g.ids.targetThread = w.tids[i]
	for _, s := range []*diffSide{g.caller, g.target} {
		s.live = number%2 == 0
		if err := s.make(diffPieces(rnd, shape, s.caller, w.lacking)); err != nil {
			return err
		}
	}
	if err := w.processes(); err != nil {
		return err
	}
	w.cover.layouts++
	for n := 0; n < calls; {
		for _, s := range []*diffSide{g.caller, g.target} {
			if rnd.IntN(8) == 0 {
				if err := s.dropSome(rnd); err != nil {
					return err
				}
			}
		}
		c := g.next()
		if c.long {
			if err := g.target.dropCopies(); err != nil {
				return err
			}
		}
		made, err := w.call(c, n%32 == 31)
		if err != nil {
			return fmt.Errorf("call %d: %w\n%s", n, err, c.describe(g))
		}
		n += diffBit(made)
	}
	return errors.Join(g.caller.last(), g.target.last())
}

// processes fills the table of processes anew.
func (w *diffWorker) processes() error {
	g := &w.gen
	w.self = &Process{PID: g.caller.task, Memory: g.caller.models[diffOwn].Memory(), Subject: g.caller.subject}
	all := []*Process{
		{PID: g.caller.task, Threads: []int{g.ids.callerThread}, Memory: g.caller.models[diffSeen].Memory()},
		{PID: g.ids.zombie},
	}
	if g.ids.kernel != 0 {
		all = append(all, &Process{PID: g.ids.kernel})
	}
	target := &Process{PID: g.target.child.Pid(), Threads: []int{g.ids.targetThread}, Memory: g.target.models[diffSeen].Memory(),
		Subject: g.target.subject}
	if g.target.ended {
		target.LeaderExited = true
		target.Threads = append(target.Threads, g.target.task)
	}
	for _, p := range append(all, target) {
		if err := w.sys.Set(p); err != nil {
			return err
		}
	}
	return nil
}

// call makes one call in the process and in the models, and compares. With whole, it
// compares all of the layouts. Some calls are not made.
func (w *diffWorker) call(c *diffCall, whole bool) (made bool, err error) {
	g := &w.gen
	for _, st := range c.stores {
		if err := g.caller.models[diffOwn].Poke(st.Data, st.Addr); err != nil {
			return false, err
		}
	}
	if err := g.read(); err != nil {
		return false, err
	}
	if w.excluded() {
		for _, st := range c.stores {
			if err := g.caller.child.Poke(st.Data, st.Addr); err != nil {
				return false, err
			}
		}
		return false, nil
	}
	if err := g.harmless(c.Pid); err != nil {
		return false, err
	}
	if err := errors.Join(g.caller.look(), g.target.look()); err != nil {
		return false, err
	}
	moved, number, err := g.caller.child.VMCall(&c.VMCall, c.stores...)
	if err != nil {
		return false, err
	}
	c.moved, c.errno = moved, uint64(number)
	c.ownArray = !c.Write && g.arrayChanged()
	w.cover.count(g)
	want, wantErrno := w.sys.Syscall(context.Background(), w.self, c.Write,
		Args{PID: c.Pid, Lvec: c.Local, Liovcnt: c.LocalCount, Rvec: c.Remote, Riovcnt: c.RemoteCount, Flags: c.Flags})
	if uint64(want) != moved || uint64(wantErrno) != uint64(number) {
		return true, fmt.Errorf("the kernel gives %d, errno %d; the engine %d, errno %d", moved, number, want, wantErrno)
	}
	return true, w.compare(c, whole)
}

// excluded says whether the call is not to be made, and counts why.
func (w *diffWorker) excluded() bool {
	switch g := &w.gen; {
	case g.astray():
		w.cover.astray++
	case g.overlaps():
		w.cover.overlaps++
	default:
		return false
	}
	return true
}

// compare compares what the call may have changed, or all of the layouts.
func (w *diffWorker) compare(c *diffCall, whole bool) error {
	g := &w.gen
	g.caller.unmark(whole)
	g.target.unmark(whole)
	for _, st := range c.stores {
		g.caller.mark(st.Addr, uint64(len(st.Data)))
	}
	which := diffBit(c.Write) // the side that is stored to
	side, _ := g.side(which)
	left := c.moved + diffPage
	for _, v := range c.vec[which] {
		if left == 0 {
			break
		}
		n := min(v.Len, left)
		side.mark(remora.Addr(v.Base), n)
		left -= n
	}
	return errors.Join(g.caller.check(), g.target.check())
}
