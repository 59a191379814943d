// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compose"
	"github.com/remora-go/remora/internal/rsp"
)

// StubKind is what is behind a gdb stub.
type StubKind uint8

// The kinds.
const (
	StubMachine StubKind = iota // a whole machine, by QEMU's own stub
	StubUser                    // a user process, by gdbserver or one like it
	StubOther                   // memory at the addresses that the stub knows: kgdb, a debug probe
)

func (k StubKind) String() string {
	return [...]string{"a machine of QEMU's", "a process", "memory as the stub sees it"}[min(k, StubOther)]
}

// StubOptions say how a gdb stub is used. Nil is the same as the zero StubOptions.
type StubOptions struct {
	Write   bool          // without it a write is remora.ErrReadOnly
	Timeout time.Duration // that the stub may be silent; 0: 10 s

	// Running says whether the machine runs, before anything is said to the stub: what the
	// stub itself can tell comes after it has stopped the machine. With nil, or where it
	// gives an error, a machine that may have run is taken to have run.
	Running func(context.Context) (bool, error)

	// Watchdog starts something that outlives this process, and says Stub.LastWords on
	// Stub.Connection if it dies; done ends it. It is asked where a machine of QEMU's is to
	// run on. Without it such a machine stands when this process is killed.
	Watchdog func(*Stub) (done func() error, err error)
}

// Stub is a connection to a gdb stub. As long as it is open, what is behind the stub
// stands still.
type Stub struct {
	c        *rsp.Client
	name     string
	kind     StubKind
	write    bool
	turn     chan struct{} // a place for the one who sets the mode and moves memory
	physical bool          // the mode of QEMU's stub, now
	was      bool          // the same, as found
	resume   bool          // it ran
	told     string        // how that is known
	threads  []rsp.Thread
	features *rsp.Features
	closed   atomic.Bool
	raw      *stubRaw           // physical memory without bounds
	whole    *compose.PageCache // of that
	seen     seen               // pages of it
	guarded  func() error       // ends the watchdog; nil: there is none
}

// OpenStub connects to the stub at address: HOST:PORT, or the path of a unix socket. With
// QEMU's stub the guest is stopped until the Stub is closed; a process under gdbserver
// stands already.
func OpenStub(ctx context.Context, address string, o *StubOptions) (*Stub, error) {
	if o == nil {
		o = &StubOptions{}
	}
	s := &Stub{name: "gdb stub " + address, write: o.Write, turn: make(chan struct{}, 1)}
	s.resume, s.told = true, "not known, so it is taken to have run"
	known := false
	if o.Running != nil {
		ran, err := o.Running(ctx)
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err != nil:
			s.told += ": " + err.Error()
		default:
			s.resume, s.told, known = ran, "known by QMP", true
		}
	}
	network := "tcp"
	if strings.Contains(address, "/") || !strings.Contains(address, ":") {
		network = "unix"
	}
	conn, err := (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, network, address)
	switch {
	case ctx.Err() != nil:
		if err == nil {
			conn.Close()
		}
		return nil, ctx.Err()
	case err != nil:
		return nil, stubDialError(address, err)
	}
	// From here on the machine stands. What is begun is finished even if ctx ends, so that
	// it can be let run again.
	grace, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() {
		defer cancel()
		select {
		case <-time.After(openGrace):
		case <-grace.Done():
		}
	})()
	say := &rsp.Options{Timeout: o.Timeout, Interrupt: true}
	if s.resume {
		say.Farewell = letGo
	}
	if s.c, err = rsp.New(grace, conn, address, say); err != nil {
		err = notStub(address, err)
	} else {
		if err = s.begin(grace, known); err == nil && s.kind == StubMachine && s.resume && o.Watchdog != nil {
			s.guarded, err = o.Watchdog(s)
		}
		if err != nil || ctx.Err() != nil {
			s.Close()
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, stubError(err)
	}
	return s, nil
}

// letGo lets the machine of QEMU's run. QEMU stops it for a client that has waited for
// another one to leave, also where that client has given up long since.
const letGo = "D;1"

// begin finds out what the stub is.
func (s *Stub) begin(ctx context.Context, known bool) error {
	mode, err := s.c.PhysicalMode(ctx)
	switch {
	case err == nil:
		s.kind, s.physical, s.was = StubMachine, mode, mode
		s.c.Pipeline()
		s.c.ReadUpTo(s.c.PacketSize() / 2)
		if !known {
			s.askState(ctx)
		}
	case !errors.Is(err, errors.ErrUnsupported):
		return stubError(err)
	default:
		if s.kind = StubOther; s.isProcess() {
			s.kind = StubUser
		}
		s.resume = s.c.Interrupted()
		if s.told = "known by its answer, as it stood"; s.resume {
			s.told = "known by its silence before it was interrupted"
		}
	}
	if gone := s.c.Stop().Gone; gone != "" {
		return fmt.Errorf("%s: %s: %w", s.name, gone, fs.ErrNotExist)
	}
	if s.features, err = s.c.Features(ctx); errors.Is(err, errors.ErrUnsupported) {
		s.features, err = &rsp.Features{}, nil
	}
	if err != nil {
		return stubError(err)
	}
	if s.threads, err = s.c.Threads(ctx); err != nil {
		if s.threads = nil; !stubRefusal(err) {
			return stubError(err)
		}
	}
	s.raw = newStubRaw(s)
	s.whole = compose.Cache(s.raw, &compose.CacheOptions{Bytes: stubCache})
	return ctx.Err()
}

// stubCache is how much physical memory of a stopped machine is kept, in bytes.
const stubCache = 64 << 20

// stubRefusal says whether err is an answer: the stub lives, and does not do this.
func stubRefusal(err error) bool {
	_, no := errors.AsType[*rsp.Error](err)
	return no || errors.Is(err, errors.ErrUnsupported)
}

// isProcess says whether only a stub of a process has what this one has.
func (s *Stub) isProcess() bool {
	for _, f := range []string{"qXfer:auxv:read", "qXfer:exec-file:read", "qXfer:libraries-svr4:read"} {
		if _, ok := s.c.Offers(f); ok {
			return true
		}
	}
	return false
}

// askState asks QEMU's monitor, behind the stub, in which state the machine is. Attaching
// has paused it if it ran, so only a state that is neither running nor paused tells that it
// did not.
func (s *Stub) askState(ctx context.Context) {
	text, err := s.c.Monitor(ctx, "info status")
	text = strings.TrimSpace(text)
	_, state, special := strings.Cut(strings.TrimSuffix(text, ")"), "(")
	if err != nil || !special || len(state) > 40 {
		return
	}
	if !slices.Contains([]string{"debug", "single step mode"}, state) {
		s.resume, s.told = false, "known by its state, "+state
	}
}

// Address is that of the stub.
func (s *Stub) Address() string { return s.c.Peer() }

// Kind is what is behind the stub.
func (s *Stub) Kind() StubKind { return s.kind }

// Machine is what the stub says that the processor is; elf.EM_NONE where it does not.
func (s *Stub) Machine() elf.Machine {
	for _, a := range []struct {
		prefix  string
		machine elf.Machine
	}{
		{"i386:x86-64", elf.EM_X86_64}, {"i386:x64-32", elf.EM_X86_64}, {"i386", elf.EM_386}, {"aarch64", elf.EM_AARCH64},
		{"arm", elf.EM_ARM}, {"riscv", elf.EM_RISCV}, {"powerpc", elf.EM_PPC64}, {"s390", elf.EM_S390},
	} {
		if strings.HasPrefix(s.features.Architecture, a.prefix) {
			return a.machine
		}
	}
	return elf.EM_NONE
}

// ptrSize is how wide an address is, in bytes; 0 where that is not known.
func (s *Stub) ptrSize() uint8 {
	switch a := s.features.Architecture; {
	case a == "":
		return 0
	case strings.Contains(a, "64") && a != "i386:x64-32", a == "aarch64":
		return 8
	}
	return 4
}

// StubCPU is a processor of a machine, or a thread of a process.
type StubCPU struct {
	Name string
	ID   int64             // of the thread, as the stub has it
	Regs map[string]uint64 // by the names of gdb
}

// systemRegisters are those that tell where page tables are, and are not among the general
// ones of every stub.
func systemRegisters() []string {
	return []string{"TTBR0_EL1", "TTBR1_EL1", "TCR_EL1", "MAIR_EL1", "SCTLR_EL1", "satp", "cr0", "cr3", "cr4", "efer"}
}

// CPUs reads the registers of every processor or thread.
func (s *Stub) CPUs(ctx context.Context) ([]StubCPU, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	all := make([]StubCPU, 0, len(s.threads))
	for i, t := range s.threads {
		regs, err := s.c.Registers(ctx, s.features, t, systemRegisters())
		if stubRefusal(err) {
			continue
		}
		if err != nil {
			return nil, stubError(err)
		}
		cpu := StubCPU{Name: fmt.Sprintf("CPU %d", i), ID: t.TID, Regs: regs}
		if s.kind == StubUser {
			cpu.Name = fmt.Sprintf("thread %d", t.TID)
		}
		all = append(all, cpu)
	}
	if len(s.threads) > 0 { // memory is again that of the first one
		if err := s.c.Select(ctx, s.threads[0]); err != nil && !stubRefusal(err) {
			return nil, stubError(err)
		}
	}
	return all, nil
}

// enter waits until nobody else speaks to the stub.
func (s *Stub) enter(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
	default:
		select {
		case s.turn <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if s.closed.Load() {
		<-s.turn
		return fs.ErrClosed
	}
	return nil
}

func (s *Stub) leave() { <-s.turn }

// setMode has addresses be physical ones, or virtual. The caller has entered.
func (s *Stub) setMode(ctx context.Context, physical bool) error {
	if s.kind != StubMachine || s.physical == physical {
		return nil
	}
	if err := s.c.SetPhysicalMode(ctx, physical); err != nil {
		return stubError(err)
	}
	s.physical = physical
	return nil
}

// openGrace is how long opening may go on when its context has ended.
const openGrace = 250 * time.Millisecond

// closeTime is how long the stub may take to let go.
const closeTime = 3 * time.Second

// Close leaves the stub as it was found, as far as that is known: in the mode in which
// addresses were, and a machine that ran runs on. It may be called more than once.
func (s *Stub) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	switch err := s.enter(ctx); {
	case errors.Is(err, fs.ErrClosed):
		return nil
	case err != nil: // somebody waits for the stub, which is silent
		s.closed.Store(true)
		return s.c.Close()
	}
	defer s.leave()
	s.closed.Store(true)
	err := s.setMode(ctx, s.was)
	if err == nil && s.resume {
		err = s.c.Detach(ctx)
	}
	if err != nil && s.resume && s.kind == StubMachine { // it may hear what it no longer answers
		s.c.Say(ctx, s.LastWords())
	}
	if s.whole != nil {
		s.whole.Close()
	}
	if s.guarded != nil {
		_ = s.guarded() // the machine runs, or has gone
	}
	if gone := s.c.Close(); err == nil && !errors.Is(gone, net.ErrClosed) {
		err = gone
	}
	if err = stubError(err); errors.Is(err, remora.ErrGone) { // there is nothing left to be restored
		return nil
	}
	return err
}
