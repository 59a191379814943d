// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"

	"github.com/remora-go/remora"
)

// Thread is a thread of a process, and what it has in its registers in user mode.
type Thread struct {
	*Task
	Regs map[string]uint64 // by the names that gdb uses; nil: they are not known
	From string            // "processor 1", or "the kernel's stack"
	Why  error             // they are not known, or not all of them
}

// frameFields are the members of struct pt_regs, what an entry into the kernel pushes, and
// of what is kept elsewhere.
type frameFields struct {
	machine elf.Machine
	size    uint64
	names   []string // by the names that gdb uses
	at      []field
	extra   []string // of struct task_struct
	extraAt []field
}

// The registers in struct pt_regs of each machine: the name that gdb uses, and behind a
// colon that of the member, where it is another one.
const (
	frameAMD64 = "r15 r14 r13 r12 rbp:bp rbx:bx r11 r10 r9 r8 rax:ax rcx:cx rdx:dx rsi:si rdi:di orig_rax:orig_ax" +
		" rip:ip cs eflags:flags rsp:sp ss"
	frameExtraAMD64 = "fs_base:thread.fsbase gs_base:thread.gsbase ds:thread.ds es:thread.es fs:thread.fsindex gs:thread.gsindex"
	frameRISCV64    = "pc:epc ra sp gp tp t0 t1 t2 fp:s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6 status"
	frameARM64      = "sp pc pstate"
	arm64Numbered   = 31 // registers in pt_regs.regs
)

// Machine is what the kernel runs on.
func (k *Kernel) Machine() elf.Machine { return k.hints.machine(k.VMCoreInfo()) }

// frameFieldsOf finds the members.
func (k *Kernel) frameFieldsOf(ctx context.Context) (*frameFields, error) {
	return k.processAnswers.frame.do(ctx, func(ctx context.Context) (*frameFields, error) {
		t, err := k.Types(ctx)
		if err != nil {
			return nil, err
		}
		f := &frameFields{machine: k.Machine()}
		var list, extra string
		switch f.machine {
		case elf.EM_X86_64:
			list, extra = frameAMD64, frameExtraAMD64
		case elf.EM_AARCH64:
			list = frameARM64
		case elf.EM_RISCV:
			list = frameRISCV64
		default:
			return nil, fmt.Errorf("registers of %v: %w", f.machine, errors.ErrUnsupported)
		}
		if f.size, err = t.size(ctx, "pt_regs"); err != nil {
			return nil, err
		}
		var all []wanted
		f.names, f.at, all = frameWanted("pt_regs.", list, all, false)
		f.extra, f.extraAt, all = frameWanted("task_struct.", extra, all, true)
		var numbered field
		if f.machine == elf.EM_AARCH64 {
			all = append(all, wanted{into: &numbered, member: "pt_regs.regs"})
		}
		if err := t.fields(ctx, all...); err != nil {
			return nil, fmt.Errorf("registers of threads: %w", err)
		}
		for i := range min(numbered.size/8, arm64Numbered) {
			f.names = append(f.names, fmt.Sprintf("x%d", i))
			f.at = append(f.at, field{off: numbered.off + uint64(8*i), size: 8, there: true})
		}
		return f, nil
	})
}

// frameWanted takes a list of members apart, and adds them to what is asked for.
func frameWanted(structure, list string, all []wanted, optional bool) ([]string, []field, []wanted) {
	words := strings.Fields(list)
	names, at := make([]string, len(words)), make([]field, len(words))
	for i, w := range words {
		name, member, ok := strings.Cut(w, ":")
		if !ok {
			member = name
		}
		names[i] = name
		all = append(all, wanted{into: &at[i], member: structure + member, optional: optional})
	}
	return names, at, all
}

// Threads gives the threads of the process, the first one first, with their registers. An
// error ends the list.
func (p *Process) Threads(ctx context.Context) iter.Seq2[*Thread, error] {
	return func(yield func(*Thread, error) bool) {
		if !p.gate.Enter() {
			yield(nil, fs.ErrClosed)
			return
		}
		defer p.gate.Leave()
		f, why := p.k.frameFieldsOf(ctx)
		var running []Processor
		if why == nil {
			running, why = p.k.Processors(ctx)
		}
		for t, err := range p.k.Threads(ctx, p.Task) {
			if err != nil {
				yield(nil, err)
				return
			}
			th := &Thread{Task: t, Why: why}
			if f != nil {
				th.find(ctx, p.k, f, running)
			}
			if !yield(th, nil) {
				return
			}
		}
	}
}

// find finds the registers: those of the processor that the thread ran on, if it was in
// user mode, else what it left on its kernel stack when it last came from there.
func (t *Thread) find(ctx context.Context, k *Kernel, f *frameFields, running []Processor) {
	for i := range running {
		r := &running[i]
		if r.Current != t.Addr || !r.Online {
			continue
		}
		switch {
		case r.Regs == nil:
			t.Why = fmt.Errorf("it ran on processor %d, whose registers the image does not have: %w", r.ID, remora.ErrNotSaved)
			return
		case f.userMode(r.Regs):
			t.Regs, t.From, t.Why = r.Regs, fmt.Sprintf("processor %d", r.ID), nil
			return
		}
	}
	regs, err := f.fromStack(ctx, k, t.Task)
	if t.Why = err; regs != nil {
		t.Regs, t.From = regs, "the kernel's stack"
	}
}

// The sizes that a kernel stack may have (THREAD_SIZE), the usual one first, and what
// x86-64 leaves free above the registers (TOP_OF_KERNEL_STACK_PADDING with FRED).
var (
	stackSizes    = [...]uint64{16 << 10, 32 << 10, 64 << 10, 8 << 10}
	stackPaddings = [...]uint64{0, 16}
)

// fromStack reads the registers where an entry from user mode put them: at the top of the
// kernel stack (task_pt_regs). How large that is nothing tells; where the registers are of
// user mode it is right.
func (f *frameFields) fromStack(ctx context.Context, k *Kernel, t *Task) (map[string]uint64, error) {
	if t.Stack == 0 || f.size == 0 || f.size > 4096 {
		return nil, fmt.Errorf("thread %d has no kernel stack: %w", t.PID, remora.ErrNotPresent)
	}
	size := f.size
	if f.machine == elf.EM_RISCV || f.machine == elf.EM_AARCH64 {
		size = (size + 15) &^ 15
	}
	var why error
	for _, n := range stackSizes {
		for _, padding := range stackPaddings {
			at := t.Stack + remora.Addr(n-padding-size)
			regs, err := f.read(ctx, k, t, at)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err == nil && f.userMode(regs) {
				return regs, nil
			}
			if why == nil {
				why = err
			}
		}
	}
	if why == nil {
		why = remora.ErrCorrupt
	}
	return nil, fmt.Errorf("the kernel stack of thread %d at %v has no registers of user mode at its top: %w", t.PID, t.Stack, why)
}

// read reads a struct pt_regs, and what is not in it.
func (f *frameFields) read(ctx context.Context, k *Kernel, t *Task, at remora.Addr) (map[string]uint64, error) {
	b := make([]byte, f.size)
	if _, err := k.mem.ReadAt(ctx, b, at); err != nil {
		return nil, err
	}
	regs := make(map[string]uint64, len(f.names)+len(f.extra))
	for i, name := range f.names {
		regs[name] = f.at[i].in(b)
	}
	p := peekInto(ctx, k)
	defer p.done()
	for i, name := range f.extra {
		if f.extraAt[i].has() {
			regs[name] = p.uint(t.Addr, f.extraAt[i])
		}
	}
	return regs, p.err
}

// userMode says whether registers are of user mode.
func (f *frameFields) userMode(regs map[string]uint64) bool {
	switch f.machine {
	case elf.EM_X86_64:
		cs, ss := regs["cs"]&0xffff, regs["ss"]&0xffff
		return (cs == 0x33 || cs == 0x23) && ss == 0x2b && regs["rip"] < middleOfSpace // __USER_CS, __USER32_CS, __USER_DS
	case elf.EM_AARCH64:
		const modes = 0xf // of PSR: EL0, in both widths
		return regs["pstate"]&modes == 0 && regs["pc"] < middleOfSpace && regs["pc"] != 0
	}
	const supervisor = 0x100 // SR_SPP
	return regs["status"]&supervisor == 0 && regs["pc"] < middleOfSpace && regs["pc"] != 0
}
