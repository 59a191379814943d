// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// chooseDoor finds the way in. Nothing of the target is touched: the kernel decides
// on permission before it looks at the address (R18), so an address that cannot be
// mapped tells a refusal from a fault.
func (p *Process) chooseDoor() error {
	if p.opts.Door != DoorAuto {
		return p.useDoor(p.opts.Door)
	}
	errno := p.tryVM()
	if errno == linux.OK {
		return p.useDoor(DoorVM)
	}
	if errno == linux.ESRCH {
		return p.noProcess("has exited", remora.ErrGone)
	}
	p.doorNote = whyNotVM(errno)
	if p.as.mem >= 0 && (p.as.maps >= 0) {
		return p.useDoor(DoorMem)
	}
	if vmBlocked() && p.as.maps >= 0 && p.tracer.allowed(context.Background()) == nil {
		p.doorNote += "; /proc/PID/mem cannot be opened"
		return p.useDoor(DoorPtrace)
	}
	return p.refused("read the memory of", errno)
}

// useDoor takes a door that is known to work, or that was asked for.
func (p *Process) useDoor(d Door) error {
	switch d {
	case DoorVM:
		if errno := p.tryVM(); errno != 0 {
			return p.refused("read the memory of", errno)
		}
	case DoorMem:
		if p.as.mem < 0 {
			_, errno := linux.Open(p.path("mem"), linux.RDONLY)
			return p.refused("open /proc/PID/mem of", errno)
		}
	case DoorPtrace:
		if err := p.tracer.allowed(context.Background()); err != nil {
			return p.refused("trace", err)
		}
	default:
		return fmt.Errorf("%s: no such door: %v: %w", p.name(), d, errors.ErrUnsupported)
	}
	if d != DoorVM && p.as.maps < 0 {
		_, errno := linux.Open(p.path("maps"), linux.RDONLY)
		return p.refused("read /proc/PID/maps of", errno)
	}
	p.door.Store(uint32(d))
	return nil
}

// nowhere is an address that no process can have mapped.
const nowhere = ^uintptr(0) &^ 0xfff

// tryVM gives OK when process_vm_readv would be allowed for the target.
func (p *Process) tryVM() linux.Errno { return tryVM(p.call) }

func tryVM(pid int) linux.Errno {
	var b [1]byte
	_, errno := linux.VMOne(false, pid, b[:], uint64(nowhere))
	if errno == linux.EFAULT {
		return linux.OK
	}
	return errno
}

// vmBlocked says whether process_vm_* fails for any process, our own included: a
// kernel without it, or a seccomp filter, and not a refusal for this target.
func vmBlocked() bool { return tryVM(os.Getpid()) != 0 }

// whyNotVM says in words why process_vm_* is not the door.
func whyNotVM(errno linux.Errno) string {
	switch {
	case !vmBlocked():
		return fmt.Sprintf("process_vm_readv is refused for this process (%v)", errno)
	case errno == linux.ENOSYS:
		return "this kernel, or a seccomp filter, has no process_vm_readv (ENOSYS)"
	}
	return fmt.Sprintf("a seccomp filter forbids process_vm_readv, even for our own process (%v)", errno)
}

// reroute takes another door when the one in use has come to be refused: a filter
// or a change of ids since the process was opened, or the thread that we named has
// ended while others live. It says whether to try again.
func (p *Process) reroute(as *addressSpace, errno linux.Errno) bool {
	if Door(p.door.Load()) != DoorVM || as.mem < 0 || as.maps < 0 {
		return false
	}
	switch errno {
	case linux.ESRCH: // the target is not gone, so this door too, if it was asked for, is left
	case linux.EPERM, linux.ENOSYS:
		if p.opts.Door != DoorAuto {
			return false
		}
	default:
		return false
	}
	if !as.alive() || (p.exited() && errno != linux.ESRCH) {
		return false
	}
	p.door.Store(uint32(DoorMem))
	return true
}
