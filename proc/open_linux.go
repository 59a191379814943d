// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"strconv"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// Open opens the process, or the process of the thread, whose id in this pid
// namespace is pid. Nil options are the zero Options.
//
// The error Is remora.ErrGone for a zombie, fs.ErrNotExist where there is no such
// process or no user memory (a kernel thread), and is a *remora.AccessError where
// the system refuses.
func Open(pid int, o *Options) (*Process, error) {
	p := &Process{pid: pid, call: pid, pidfd: -1}
	if o != nil {
		p.opts = *o
	}
	p.as = &addressSpace{maps: -1, mem: -1, pagemap: -1}
	p.tracer = newTracer(pid)
	if err := p.open(); err != nil {
		p.tracer.close()
		p.as.drop()
		linux.Close(p.pidfd)
		return nil, err
	}
	p.memory = remora.New(&space{p})
	return p, nil
}

func (p *Process) open() error {
	if err := p.hold(); err != nil {
		return err
	}
	p.as = p.bind()
	if err := p.chooseDoor(); err != nil {
		return err
	}
	p.info = remora.Info{
		Name:      p.name(),
		Ops:       p.ops(),
		PtrSize:   p.as.ptrSize,
		BigEndian: bigEndian,
		Granule:   uint32(os.Getpagesize()),
		Last:      remora.MaxAddr,
		Writable:  p.opts.Write,
		Live:      true,
	}
	door := Door(p.door.Load())
	short := door == DoorVM && !p.opts.FollowExec
	p.quick = short && !p.opts.shares()
	p.sharing = short && p.opts.shares() && p.as.query
	p.quickForce = door != DoorPtrace && !p.opts.FollowExec && p.opts.Unchecked && p.as.mem >= 0
	if p.exited() {
		return p.noProcess("exited while it was being opened", remora.ErrGone)
	}
	return nil
}

// shares says whether shared mappings may be read through mappings of our own.
func (o *Options) shares() bool { return o.MapShared || o.MapUnchecked }

func (p *Process) name() string { return "pid " + strconv.Itoa(p.pid) }

func (p *Process) noProcess(why string, err error) error {
	return &notThere{p.name() + " " + why, err}
}

// notThere says in words of its own why there is nothing to open.
type notThere struct {
	text string
	err  error
}

func (e *notThere) Error() string { return e.text }
func (e *notThere) Unwrap() error { return e.err }

// hold takes a pidfd, so that the number cannot come to mean another process
// unnoticed. A thread is held as a thread where the kernel can (Linux 6.9), else by
// its process.
func (p *Process) hold() error {
	st, err := readStatus(p.pid)
	if errors.Is(err, fs.ErrNotExist) || p.pid <= 0 {
		return p.noProcess("does not exist", fs.ErrNotExist)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.name(), err)
	}
	p.tgid = st.Tgid
	var errno linux.Errno
	if p.pidfd, errno = linux.PidfdOpen(p.pid, linux.PidfdThread); errno != 0 {
		p.pidfd, errno = linux.PidfdOpen(p.tgid, 0)
	}
	switch errno {
	case linux.OK:
	case linux.ESRCH:
		return p.noProcess("does not exist", fs.ErrNotExist)
	default:
		return fmt.Errorf("%s: pidfd_open: %w", p.name(), errno)
	}
	again, err := readStatus(p.pid) // the number may have been reused before we held it
	switch {
	case err != nil || again.Tgid != p.tgid || p.exited() && !ended(again):
		return p.noProcess("exited while it was being opened", remora.ErrGone)
	case kernelThread(again):
		return p.noProcess("is a kernel thread: it has no user memory", fs.ErrNotExist)
	case ended(again):
		return p.holdSurvivor()
	}
	return nil
}

// holdSurvivor looks for a living thread of a process whose first thread has
// ended: that one is a zombie, but the memory is there (R17).
func (p *Process) holdSurvivor() error {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.tgid))
	if err != nil {
		return p.noProcess("does not exist", fs.ErrNotExist)
	}
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil || tid == p.tgid {
			continue
		}
		if st, err := readStatus(tid); err != nil || st.Tgid != p.tgid || ended(st) {
			continue
		}
		switch fd, errno := linux.PidfdOpen(tid, linux.PidfdThread); errno {
		case linux.OK:
			linux.Close(p.pidfd)
			p.pidfd, p.call = fd, tid
			return nil
		case linux.EINVAL: // before Linux 6.9 the process is what can be held
			p.call = tid
			return nil
		}
	}
	return p.noProcess("is a zombie: it has exited, and its memory is gone", remora.ErrGone)
}

// bind opens what stays bound to the address space. What cannot be opened is
// missing; chooseDoor decides whether that matters.
func (p *Process) bind() *addressSpace {
	as := &addressSpace{maps: -1, mem: -1, pagemap: -1, ptrSize: p.ptrSize()}
	as.mark = p.findMark(as.ptrSize)
	if fd, errno := linux.Open(p.path("maps"), linux.RDONLY); errno == 0 {
		as.maps = fd
		q := linux.MapQuery{Flags: linux.QueryCoverNext}
		as.query = linux.QueryMap(fd, &q) == 0
	}
	mode := linux.RDONLY
	if p.opts.Write {
		mode = linux.RDWR
	}
	if fd, errno := linux.Open(p.path("mem"), mode); errno == 0 {
		as.mem = fd
	}
	if fd, errno := linux.Open(p.path("pagemap"), linux.RDONLY); errno == 0 {
		as.pagemap, as.counts = fd, linux.SpaceUsed(fd) == linux.OK
		_, _, errno := linux.ScanPages(fd, 0, uint64(os.Getpagesize()), linux.PagePresent, linux.PagePresent, make([]linux.PageRegion, 1))
		as.scan = errno == 0
	}
	return as
}

// follow binds the handle to the program that the process runs now, unless
// another call has done so since as was in use. It says whether to try again.
func (p *Process) follow(as *addressSpace) bool {
	p.execMu.Lock()
	defer p.execMu.Unlock()
	if p.as != as {
		return true
	}
	if p.exited() || p.same(as) {
		return false
	}
	fresh := p.bind()
	if fresh.mem < 0 && fresh.maps < 0 {
		fresh.drop()
		return false
	}
	p.as = fresh
	p.shared.close() // of the program before
	as.drop()
	return true
}

// ops gives the bits that can be honoured.
func (p *Process) ops() remora.Op {
	ops := remora.Write | remora.StopAtFault | remora.Force
	if p.as.pagemap >= 0 {
		ops |= remora.Resident
	}
	return ops
}

// forcing says whether /proc/PID/mem ignores protections on this kernel. Since
// Linux 6.12 a boot option and a build option can forbid it; a forced write to a
// read-only page of our own tells.
func (p *Process) forcing() bool {
	p.forceOnce.Do(func() {
		as := p.take()
		defer as.drop()
		p.forceMem = as.mem >= 0 && linux.ForcedWrite() == 0
	})
	return p.forceMem
}

// bigEndian: a process has the byte order of the machine, and so have we.
const bigEndian = runtime.GOARCH == "s390x" || runtime.GOARCH == "ppc64" || runtime.GOARCH == "mips64" || runtime.GOARCH == "mips"

// ptrSize reads the class of the program from its ELF header, 0 if it cannot.
func (p *Process) ptrSize() uint8 {
	f, err := os.Open(p.path("exe"))
	if err != nil {
		return 0
	}
	defer f.Close()
	var ident [5]byte
	if _, err := f.ReadAt(ident[:], 0); err != nil || string(ident[:4]) != "\x7fELF" {
		return 0
	}
	return ident[4] * 4 // ELFCLASS32 is 1, ELFCLASS64 is 2
}
