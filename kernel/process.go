// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"iter"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
	"github.com/remora-go/remora/paging"
)

// ProcessOptions say what there is besides the kernel's memory.
type ProcessOptions struct {
	Swaps []SwapFile // copies of the swap areas
}

// Process is a process in a kernel: a remora.Target, and the Space of its user memory.
//
// A page is looked for where the kernel itself would: in the page tables, in the swap
// cache, among the pages that were swapped out as zeros, in zswap and zram, which cannot
// be unpacked (remora.ErrNotPresent), in the swap file that ProcessOptions give, and in
// the page cache of the file that is mapped. What was never touched of an anonymous
// mapping is zeros. A write reaches what the page tables have, whoever else has it
// mapped, and pages of files that are shared; where there is no page that is the
// process's own it ends in remora.ErrNotPresent.
type Process struct {
	Task *Task

	k     *Kernel
	f     *processFields
	mm    remora.Addr
	gate  xfer.Gate
	pager *pager
	view  *paging.View
	mem   *remora.Memory
}

var (
	_ remora.Target     = (*Process)(nil)
	_ remora.Space      = (*Process)(nil)
	_ remora.Translator = (*Process)(nil)
	_ remora.Explainer  = (*Process)(nil)
	_ remora.Mapper     = (*Process)(nil)
	_ remora.Describer  = (*Process)(nil)
)

// processFields are the members of struct mm_struct that a Process needs.
type processFields struct {
	pgd, argStart, argEnd, envStart, envEnd, auxv, exe field
	xarray                                             xarrayFields
}

func (k *Kernel) processFieldsOf(ctx context.Context) (*processFields, error) {
	return k.processAnswers.proc.do(ctx, func(ctx context.Context) (*processFields, error) {
		t, err := k.Types(ctx)
		if err != nil {
			return nil, err
		}
		f := &processFields{}
		err = t.fields(ctx, append(f.xarray.wanted(),
			wanted{into: &f.pgd, member: "mm_struct.pgd"},
			wanted{into: &f.argStart, member: "mm_struct.arg_start"},
			wanted{into: &f.argEnd, member: "mm_struct.arg_end"},
			wanted{into: &f.envStart, member: "mm_struct.env_start"},
			wanted{into: &f.envEnd, member: "mm_struct.env_end"},
			wanted{into: &f.auxv, member: "mm_struct.saved_auxv"},
			wanted{into: &f.exe, member: "mm_struct.exe_file"})...)
		if err != nil {
			return nil, fmt.Errorf("memory of processes: %w", err)
		}
		return f, nil
	})
}

// noMemoryError says that a task has no memory of its own. It Is fs.ErrNotExist.
type noMemoryError struct {
	name string // of the kernel
	task *Task
}

func (e *noMemoryError) Error() string {
	why := "it has ended"
	if e.task.KernelThread() || e.task.Idle() {
		why = "it is a thread of the kernel"
	}
	return fmt.Sprintf("%s: %d (%q) has no memory of its own: %s", e.name, e.task.PID, e.task.Comm, why)
}

func (e *noMemoryError) Is(target error) bool { return target == fs.ErrNotExist }

// Process gives the process that has a thread of that number; nil options are the zero
// options. The kernel stays open when it is closed. One without memory of its own, as
// the kernel's threads and what has ended are, is an error that Is fs.ErrNotExist.
func (k *Kernel) Process(ctx context.Context, pid int, o *ProcessOptions) (*Process, error) {
	t, err := k.Task(ctx, pid)
	if err != nil {
		return nil, err
	}
	if t.MM == 0 {
		return nil, &noMemoryError{k.info.Name, t}
	}
	if o == nil {
		o = &ProcessOptions{}
	}
	f, err := k.processFieldsOf(ctx)
	if err != nil {
		return nil, err
	}
	p := &Process{Task: t, k: k, f: f, mm: t.MM}
	tables, err := p.tables(ctx)
	if err != nil {
		return nil, err
	}
	vmas, bad := k.vmas(ctx, t.MM)
	if bad != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	files, err := k.swapSpaces(ctx, o.Swaps)
	if err != nil {
		return nil, err
	}
	p.pager = newPager(k, tables, vmas, f.xarray, files)
	p.pager.kept.Load().bad, p.pager.mm = bad, t.MM
	p.view = paging.New(k.phys, p.pager, &paging.ViewOptions{Name: fmt.Sprintf("%s@%d", k.info.Name, pid)})
	p.mem = remora.New(p)
	if err := p.alive(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// newPager gives the Translator of a process.
func newPager(k *Kernel, tables *paging.Tables, vmas []VMA, x xarrayFields, files *[swapTypes]*swapSpace) *pager {
	t := &pager{
		k: k, tables: tables, format: tables.Format(), shift: k.pageShift(), xarray: x, files: files,
		zeros: standInFor(k.phys, nil, "zeros"), cached: standInFor(k.phys, k.phys, ""),
	}
	t.kept.Store(&mappings{list: vmas})
	return t
}

// tables gives the page tables of the process, of the same form as the kernel's.
func (p *Process) tables(ctx context.Context) (*paging.Tables, error) {
	found, err := p.k.Tables(ctx)
	if err != nil {
		return nil, err
	}
	r := p.k.reader(ctx)
	pgd := r.ptr(p.mm, p.f.pgd)
	if r.err != nil {
		return nil, fmt.Errorf("the mm of %d: %w", p.Task.PID, r.err)
	}
	e := p.k.Translate(ctx, pgd)
	if e.Err != nil {
		return nil, fmt.Errorf("the page tables of %d are at %v: %w", p.Task.PID, pgd, e.Err)
	}
	return p.k.TablesAt(found.Format, e.Phys+(pgd-e.Virt), paging.Lower), nil
}

// Memory is the memory of the process. Process itself is its Space.
func (p *Process) Memory() *remora.Memory { return p.mem }

// Info gives the facts of the Space.
func (p *Process) Info() remora.Info { return p.view.Info() }

// Translate gives the run of addresses around va, and where it lies: in physical memory,
// or, with In, elsewhere.
func (p *Process) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	p.pager.turn.Add(1)
	return p.pager.Translate(ctx, va)
}

// Explain says what is known of the page at a.
func (p *Process) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	if !p.gate.Enter() {
		return c
	}
	defer p.gate.Leave()
	p.pager.turn.Add(1)
	return p.view.Explain(ctx, op, a, c)
}

// Close waits for running calls. The kernel stays open.
func (p *Process) Close() error {
	p.gate.Close()
	return p.view.Close()
}

// VMAs gives the mappings in the order of their addresses. With an error they are those
// that were found before it.
func (p *Process) VMAs(ctx context.Context) ([]VMA, error) {
	p.pager.turn.Add(1)
	m := p.pager.mappings(ctx)
	if err := p.alive(ctx); err != nil {
		return nil, err
	}
	return m.list, m.bad
}

// Regions gives the mappings as /proc/PID/maps lists them.
func (p *Process) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		if !p.gate.Enter() {
			yield(remora.Region{}, fs.ErrClosed)
			return
		}
		defer p.gate.Leave()
		all, bad := p.VMAs(ctx)
		for i := range all {
			if err := ctx.Err(); err != nil {
				yield(remora.Region{}, err)
				return
			}
			if !yield(all[i].Region, nil) {
				return
			}
		}
		if bad != nil {
			yield(remora.Region{}, bad)
		}
	}
}

// Describe says what the process is.
func (p *Process) Describe(ctx context.Context) ([]remora.Fact, error) {
	if !p.gate.Enter() {
		return nil, fs.ErrClosed
	}
	defer p.gate.Leave()
	facts := []remora.Fact{{Key: "process", Value: fmt.Sprintf("%d, %q, of the kernel in %s", p.Task.TGID, p.Task.Comm, p.k.info.Name)}}
	if exe, err := p.Exe(ctx); err == nil {
		facts = append(facts, remora.Fact{Key: "program", Value: exe})
	}
	all, bad := p.VMAs(ctx)
	facts = append(facts,
		remora.Fact{Key: "page tables", Value: fmt.Sprintf("%v, the top one at %v", p.pager.format, p.pager.tables.Root())},
		remora.Fact{Key: "mappings", Value: fmt.Sprint(len(all))})
	if bad != nil {
		facts = append(facts, remora.Fact{Key: "mappings are missing", Value: bad.Error()})
	}
	for _, f := range p.pager.files {
		if f != nil {
			facts = append(facts, remora.Fact{Key: "swap file", Value: f.file.Name + "; it must be of the same moment as the image"})
		}
	}
	return facts, ctx.Err()
}

// maxStrings is the largest size of arguments and environment that is believed.
const maxStrings = 32 << 20

// Cmdline gives the arguments as /proc/PID/cmdline does: a NUL behind each. A process may
// have written over them. With an error the bytes are those before what cannot be read.
func (p *Process) Cmdline(ctx context.Context) ([]byte, error) {
	start, end, err := p.span(ctx, p.f.argStart, p.f.argEnd)
	if err != nil || start == end {
		return nil, err
	}
	b, err := p.bytes(ctx, start, end)
	if err != nil || b[len(b)-1] == 0 {
		return b, err
	}
	// Where the last NUL is gone the text is a title, that may reach into the environment
	// (get_mm_proctitle in fs/proc/base.c).
	from, stop, err := p.span(ctx, p.f.envStart, p.f.envEnd)
	if err == nil && from == end && stop > from {
		end = stop
	}
	if end-start > 1<<p.pager.shift {
		end = start + 1<<p.pager.shift
	}
	title, err := p.bytes(ctx, start, end)
	if i := bytes.IndexByte(title, 0); i >= 0 {
		title = title[:i+1]
	}
	return title, err
}

// Environ gives the environment as /proc/PID/environ does.
func (p *Process) Environ(ctx context.Context) ([]byte, error) {
	start, end, err := p.span(ctx, p.f.envStart, p.f.envEnd)
	if err != nil || start == end {
		return nil, err
	}
	return p.bytes(ctx, start, end)
}

// Command gives the arguments and the environment, string by string.
func (p *Process) Command(ctx context.Context) (argv, envp []string, err error) {
	args, err := p.Cmdline(ctx)
	argv = split(args)
	if err != nil {
		return argv, nil, err
	}
	env, err := p.Environ(ctx)
	return argv, split(env), err
}

func split(b []byte) []string {
	list := []string{}
	for len(b) > 0 {
		s, rest, _ := bytes.Cut(b, []byte{0})
		list, b = append(list, string(s)), rest
	}
	return list
}

// span reads two ends of a run of strings.
func (p *Process) span(ctx context.Context, from, to field) (start, end remora.Addr, err error) {
	r := p.k.reader(ctx)
	start, end = r.ptr(p.mm, from), r.ptr(p.mm, to)
	switch {
	case r.err != nil:
		return 0, 0, r.err
	case start > end || end-start > maxStrings:
		return 0, 0, damaged("the strings of %d are said to be from %v to %v", p.Task.PID, start, end)
	}
	return start, end, nil
}

func (p *Process) bytes(ctx context.Context, start, end remora.Addr) ([]byte, error) {
	b := make([]byte, end-start)
	n, err := p.mem.ReadAt(ctx, b, start)
	return b[:n], err
}

// Exe gives the path of the program. It is "" where the process has none.
func (p *Process) Exe(ctx context.Context) (string, error) {
	r := p.k.reader(ctx)
	file := r.ptr(p.mm, p.f.exe)
	if r.err != nil || file == 0 {
		return "", r.err
	}
	return p.k.path(ctx, file)
}

// Auxv gives the auxiliary vector as the kernel keeps it: pairs of words, up to and with
// the one of zeros.
func (p *Process) Auxv(ctx context.Context) ([]byte, error) {
	const most = 1 << 12
	b := make([]byte, min(p.f.auxv.size, most)&^15)
	r := p.k.reader(ctx)
	r.bytes(p.mm+remora.Addr(p.f.auxv.off), b)
	if r.err != nil {
		return nil, r.err
	}
	for i := 0; i < len(b); i += 16 {
		if bytes.Equal(b[i:i+8], make([]byte, 8)) {
			return b[:i+16], nil
		}
	}
	return nil, damaged("the auxiliary vector of %d has no end", p.Task.PID)
}
