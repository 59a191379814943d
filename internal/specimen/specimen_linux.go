// SPDX-License-Identifier: Apache-2.0

package specimen

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// Specimen is a process with known memory. It may be used from many goroutines;
// commands are answered one at a time.
type Specimen struct {
	cmd  *exec.Cmd
	seed uint64
	page uint64

	mu   sync.Mutex
	wire wire
	in   *os.File // the end of the pipe of commands
	out  *os.File
	done bool // waited for
}

// Start starts a specimen. It is killed when ctx ends, and ends by itself when this
// process does. Close must be called.
func Start(ctx context.Context, o *Options) (*Specimen, error) {
	if o == nil {
		o = new(Options)
	}
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer childIn.Close()
	out, childOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, err
	}
	defer childOut.Close()
	cmd := again(ctx, roleServe+" "+strconv.FormatUint(o.Seed, 10), o.As)
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{childIn, childOut}
	s := &Specimen{cmd: cmd, seed: o.Seed, page: uint64(os.Getpagesize()), wire: wire{r: out, w: in}, in: in, out: out}
	if err := cmd.Start(); err != nil {
		in.Close()
		out.Close()
		return nil, fmt.Errorf("specimen: %w", err)
	}
	if _, err := s.wire.answer(); err != nil {
		return nil, errors.Join(fmt.Errorf("specimen: it does not begin: %w", err), s.Close())
	}
	return s, nil
}

// again prepares to run this program once more, in a role.
func again(ctx context.Context, role string, as *Identity) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe")
	cmd.Args = []string{os.Args[0]}
	// The race detector waits a second at the end of a process, unless told not to.
	cmd.Env = append(os.Environ(), roleEnv+"="+role, "GORACE=atexit_sleep_ms=0")
	if as != nil {
		cmd.SysProcAttr = linux.RunAs(as.UID, as.GID, as.Capabilities)
	}
	return cmd
}

// ask sends a command and waits for the answer.
func (s *Specimen) ask(v verb, data []byte, args ...uint64) (reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked(v, data, args...)
}

func (s *Specimen) asked(v verb, data []byte, args ...uint64) (reply, error) {
	if err := s.wire.command(v, data, args...); err != nil {
		return reply{}, fmt.Errorf("specimen: %v: %w", v, err)
	}
	r, err := s.wire.answer()
	if err != nil {
		return reply{}, fmt.Errorf("specimen: %v: %w", v, err)
	}
	return r, nil
}

// Pid gives the number of the process.
func (s *Specimen) Pid() int { return s.cmd.Process.Pid }

// Map maps pages of one kind, apart from all others.
func (s *Specimen) Map(k Kind, pages int) (remora.Range, error) { return s.MapAt(0, k, pages) }

// MapAt maps pages of one kind at an address where nothing is; 0 stands for any.
func (s *Specimen) MapAt(a remora.Addr, k Kind, pages int) (remora.Range, error) {
	all, err := s.LayoutAt(a, Piece{k, pages})
	if err != nil {
		return remora.Range{}, err
	}
	return all[0], nil
}

// Layout maps pieces side by side, apart from all others, and gives the range of
// each.
func (s *Specimen) Layout(pieces ...Piece) ([]remora.Range, error) { return s.LayoutAt(0, pieces...) }

// LayoutAt is Layout at an address where nothing is; 0 stands for any.
func (s *Specimen) LayoutAt(a remora.Addr, pieces ...Piece) ([]remora.Range, error) {
	args := []uint64{uint64(a)}
	var size uint64
	for _, p := range pieces {
		if p.Pages <= 0 {
			return nil, fmt.Errorf("specimen: %d pages of kind %v", p.Pages, p.Kind)
		}
		args = append(args, uint64(p.Kind), uint64(p.Pages))
		size += uint64(p.Pages) * s.page
	}
	r, err := s.ask(verbMap, nil, args...)
	if err != nil {
		return nil, err
	}
	all := make([]remora.Range, len(pieces))
	at := remora.Addr(r.value)
	for i, p := range pieces {
		all[i] = remora.Range{Start: at, Size: uint64(p.Pages) * s.page}
		at += remora.Addr(all[i].Size)
	}
	return all, nil
}

// Contents gives what memory of a kind, mapped at r, holds at first. Where not all of
// r can be accessed (FileEnd) it is shorter, and nil for a kind without contents.
func (s *Specimen) Contents(k Kind, r remora.Range) []byte {
	return contents(k, r, s.page, s.seed)
}

// Reset unmaps all that was mapped. What is mapped after it gets the addresses that
// a new specimen would give.
func (s *Specimen) Reset() error {
	_, err := s.ask(verbReset, nil)
	return err
}

// Unmap is munmap(2).
func (s *Specimen) Unmap(r remora.Range) error {
	_, err := s.ask(verbUnmap, nil, uint64(r.Start), r.Size)
	return err
}

// Protect is mprotect(2).
func (s *Specimen) Protect(r remora.Range, perm remora.Perm) error {
	_, err := s.ask(verbProtect, nil, uint64(r.Start), r.Size, uint64(perm))
	return err
}

// Drop is madvise(2) with MADV_DONTNEED: the pages are absent, and what private
// anonymous ones held is lost.
func (s *Specimen) Drop(r remora.Range) error {
	_, err := s.ask(verbDrop, nil, uint64(r.Start), r.Size)
	return err
}

// PageOut moves all pages of r to swap space. It is unsupported where that fails.
func (s *Specimen) PageOut(r remora.Range) error {
	_, err := s.ask(verbPageOut, nil, uint64(r.Start), r.Size)
	return err
}

// Peek has the specimen load len(p) bytes at a. It is an error where the specimen
// itself may not.
func (s *Specimen) Peek(p []byte, a remora.Addr) error {
	r, err := s.ask(verbPeek, nil, uint64(a), uint64(len(p)))
	if err == nil {
		copy(p, r.data)
	}
	return err
}

// Poke has the specimen store p at a.
func (s *Specimen) Poke(p []byte, a remora.Addr) error {
	_, err := s.ask(verbPoke, p, uint64(a))
	return err
}

// Sum has the specimen add up r: FNV-1a of 64 bits.
func (s *Specimen) Sum(r remora.Range) (uint64, error) {
	got, err := s.ask(verbSum, nil, uint64(r.Start), r.Size)
	return got.value, err
}

// Waiter gives the address of an access to Missing memory that waits, and has not
// been given before; ok is false when there is none.
func (s *Specimen) Waiter() (a remora.Addr, write, ok bool, err error) {
	r, err := s.ask(verbWaiter, nil)
	return remora.Addr(r.value), r.second&1 != 0, r.second&2 != 0, err
}

// Resolve puts p, which is whole pages, at a in Missing memory. Who waits for it goes
// on.
func (s *Specimen) Resolve(p []byte, a remora.Addr) error {
	_, err := s.ask(verbResolve, p, uint64(a))
	return err
}

// Release makes Missing memory ordinary memory. Who waits goes on, to find zeros.
func (s *Specimen) Release(r remora.Range) error {
	_, err := s.ask(verbRelease, nil, uint64(r.Start), r.Size)
	return err
}

// Dumpable is PR_SET_DUMPABLE.
func (s *Specimen) Dumpable(on bool) error {
	var v uint64
	if on {
		v = 1
	}
	_, err := s.ask(verbDumpable, nil, v)
	return err
}

// Become gives the specimen other ids. It then has no capabilities, and is not
// dumpable until it says so or calls Exec.
func (s *Specimen) Become(uid, gid int) error {
	_, err := s.ask(verbBecome, nil, uint64(uid), uint64(gid))
	return err
}

// Exec has the specimen call execve(2) on itself. The process is the same; nothing
// of what was mapped is left.
func (s *Specimen) Exec() error {
	_, err := s.ask(verbExec, nil)
	return err
}

// Thread starts a thread that does nothing, and gives its id.
func (s *Specimen) Thread() (tid int, err error) {
	r, err := s.ask(verbThread, nil)
	return int(r.value), err
}

// EndLeader ends the first thread, whose id is Pid. The others run on.
func (s *Specimen) EndLeader() error {
	_, err := s.ask(verbEndLeader, nil)
	return err
}

// Exit ends the specimen, and waits until it has ended. It is a zombie until Close.
func (s *Specimen) Exit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.wire.command(verbExit, nil); err != nil {
		return fmt.Errorf("specimen: exit: %w", err)
	}
	if errno := linux.AwaitExit(s.Pid()); errno != 0 {
		return fmt.Errorf("specimen: exit: %w", errno)
	}
	return nil
}

// Kill is SIGKILL, and waits until the specimen has ended. It is a zombie until Close.
func (s *Specimen) Kill() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("specimen: %w", err)
	}
	if errno := linux.AwaitExit(s.Pid()); errno != 0 {
		return fmt.Errorf("specimen: kill: %w", errno)
	}
	return nil
}

// patience is how long Close waits before it kills.
const patience = 5 * time.Second

// Close ends the specimen and waits for it. After it the number of the process may
// come to mean another. Closing twice is fine.
func (s *Specimen) Close() error {
	late := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	defer late.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return nil
	}
	s.done = true
	s.in.Close()
	_ = s.cmd.Wait() // how it ended says nothing: it may have been killed, or told to exit
	s.out.Close()
	return nil
}
