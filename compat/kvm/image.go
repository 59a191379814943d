// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"

	"github.com/remora-go/remora"
)

// Image is a kernel and what is in it: the running system, a crash dump, a guest.
// More than the methods is found with remora.As: symbols are those of an Image that is
// a remora.Symbolizer, and PhysAddr asks for a remora.Translator at the memory in
// question. An Image is used by one Handle, from one goroutine at a time.
type Image interface {
	// Kernel gives the kernel's address space. The error says why it cannot be had.
	Kernel(ctx context.Context) (*remora.Memory, error)
	// Physical gives the physical memory of the machine.
	Physical(ctx context.Context) (*remora.Memory, error)
	// Processes begins a walk over the processes.
	Processes() Walk
	// User opens the user memory of a process that a Walk gave. The caller closes it
	// before the Image. The memory is Live where R100 holds, and not where R97 does.
	User(ctx context.Context, p *Proc) (remora.Target, error)
	// Close is called once, last.
	Close() error
}

// Walk is a position in the list of processes.
type Walk interface {
	// Next gives a process that was not given before, io.EOF at the end of the list,
	// and another error where the list cannot be followed further.
	Next(ctx context.Context) (*Proc, error)
}

// Refresher is an Image whose processes change while they are looked at.
type Refresher interface {
	// Refresh gives p as it is now. The error Is remora.ErrGone when the process that
	// has the number of p is not that one any more.
	Refresh(ctx context.Context, p *Proc) (*Proc, error)
}

// Opener opens one kind of image file. An error that Is remora.ErrUnrecognized sends
// the file to the next Opener; any other is final.
type Opener func(ctx context.Context, c *Config) (Image, error)

// Config says which image to open, and how.
type Config struct {
	Corefile string
	Swapfile string // the device or file that pages were swapped out to; may be empty
	Write    bool   // writes go into the file
	Overlay  bool   // writes are kept in memory: a compose.Layer below all views of the image
}

// Proc is what libkvm's callers find in struct proc.
type Proc struct {
	PID, PPID int
	PGID, SID int
	Command   string // the name of the program, cut to 15 bytes by Linux
	State     byte   // the letter of ps(1): R, S, D, Z, T; '?' where nothing but the number may be known
	System    bool   // a kernel thread, which has no user memory
	Start     uint64 // when it began, in ticks of the kernel since boot
	User      User
}

// User is what libkvm's callers find in struct user: where arguments and
// environment are in the memory of the process. Zero addresses are unknown ones.
type User struct {
	ArgStart, ArgEnd remora.Addr // strings, each with a NUL at its end
	EnvStart, EnvEnd remora.Addr
}

// same says whether two are the same process.
func (p *Proc) same(o *Proc) bool { return p.PID == o.PID && p.Start == o.Start }

// AS names an address space, as a pointer to struct as does in libkvm. The zero AS
// names none.
type AS struct {
	kind asKind
	proc *Proc
}

type asKind uint8

const (
	asNone asKind = iota
	asPhysical
	asKernel
	asProcess
)

// PhysicalAS is physical memory: NULL in libkvm.
func PhysicalAS() AS { return AS{kind: asPhysical} }

// KernelAS is the kernel's address space: kas in libkvm.
func KernelAS() AS { return AS{kind: asKernel} }

// AS is the address space of the process: p_as in libkvm. That of a nil p is the zero
// AS.
func (p *Proc) AS() AS {
	if p == nil {
		return AS{}
	}
	return AS{asProcess, p}
}
