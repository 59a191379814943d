// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/testneed"
)

// memFile is /proc/PID/mem.
func memFile(t *testing.T, s *specimen.Specimen) int {
	t.Helper()
	fd, err := unix.Open(procFile(s.Pid(), "mem"), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// memGives is vmGives by /proc/PID/mem.
func memGives(t *testing.T, fd int, write bool, a remora.Addr, size, n int, errno linux.Errno) {
	t.Helper()
	if got, e := linux.Mem(write, fd, make([]byte, size), uint64(a)); got != n || e != errno {
		t.Errorf("%d bytes at %v, write %v: %d, %v, want %d, %v", size, a, write, got, e, n, errno)
	}
}

func TestR66MemIgnoresProtection(t *testing.T) {
	if linux.ForcedWrite() != 0 {
		testneed.Lacks(t, "/proc/PID/mem heeds protections on this kernel")
	}
	s := specimentest.Start(t, nil)
	fd := memFile(t, s)
	for _, k := range []specimen.Kind{specimen.NoAccess, specimen.WriteOnly, specimen.ExecOnly, specimen.ReadOnly, specimen.Text} {
		r := mapped(t, s, k, 1)
		memGives(t, fd, reads, r.Start, 8, 8, 0)
		memGives(t, fd, writes, r.Start, 8, 8, 0)
	}
	shared := mapped(t, s, specimen.SharedReadOnly, 1)
	memGives(t, fd, reads, shared.Start, 8, 8, 0)
	memGives(t, fd, writes, shared.Start, 8, 0, linux.EIO)
	hole := layOut(t, s, specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: specimen.Hole, Pages: 1})[1]
	for _, a := range []remora.Addr{0, hole.Start, mapped(t, s, specimen.Secret, 1).Start, mapped(t, s, specimen.Guard, 1).Start} {
		memGives(t, fd, reads, a, 8, 0, linux.EIO)
		memGives(t, fd, writes, a, 8, 0, linux.EIO)
	}
}

func TestR67MemCounts(t *testing.T) {
	s := specimentest.Start(t, nil)
	fd := memFile(t, s)
	r := layOut(t, s, specimen.Piece{Kind: specimen.Touched, Pages: 2}, specimen.Piece{Kind: specimen.Hole, Pages: 1})[0]
	memGives(t, fd, reads, r.Start+100, 3*pageSize, 2*pageSize-100, 0)
	memGives(t, fd, reads, r.Last()+1, 8, 0, linux.EIO)
	if n, err := unix.Pread(fd, nil, int64(r.Start)); n != 0 || err != nil {
		t.Errorf("no bytes: %d, %v", n, err)
	}
	if _, e := linux.Mem(reads, fd, make([]byte, 8), 1<<63+4096); e != linux.Errno(unix.EINVAL) {
		t.Errorf("pread above 2^63: %v", e)
	}
	if _, e := linux.MemSeek(reads, fd, make([]byte, 8), 1<<63+4096); e != linux.EIO {
		t.Errorf("lseek and read above 2^63: %v", e)
	}

	// A fault of the caller's own memory loses the progress; process_vm_readv does not.
	own, err := unix.Mmap(-1, 0, 2*pageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(own) }()
	if err := unix.Mprotect(own[pageSize:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	want := s.Contents(specimen.Touched, r.Range)[:pageSize]
	if n, e := linux.Mem(reads, fd, own, uint64(r.Start)); n != 0 || e != linux.EFAULT || !bytes.Equal(own[:pageSize], want) {
		t.Errorf("mem, into memory with a hole: %d, %v", n, e)
	}
	clear(own[:pageSize])
	if n, e := linux.VMOne(reads, s.Pid(), own, uint64(r.Start)); n != pageSize || e != 0 || !bytes.Equal(own[:pageSize], want) {
		t.Errorf("process_vm_readv, into memory with a hole: %d, %v", n, e)
	}
}

func TestR68MemGrowsStacks(t *testing.T) {
	s := specimentest.Start(t, nil)
	fd := memFile(t, s)
	p := openProcess(t, s.Pid(), nil)
	stack := layOut(t, s, specimen.Piece{Kind: specimen.Hole, Pages: 600}, specimen.Piece{Kind: specimen.GrowsDown, Pages: 4})[1]
	below := stack.Start - remora.Addr(16*pageSize)
	vmGives(t, s, reads, below, 8, 0, linux.EFAULT) // R47
	memGives(t, fd, reads, below, 8, 8, 0)
	for r, err := range p.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Contains(below) {
			if r.Start != below&^remora.Addr(pageSize-1) {
				t.Errorf("the stack begins at %v, the read was at %v", r.Start, below)
			}
			return
		}
	}
	t.Error("the stack did not grow")
}

func TestR69MemIsTheAddressSpace(t *testing.T) {
	s := specimentest.Start(t, nil)
	fd := memFile(t, s)
	r := mapped(t, s, specimen.Touched, 1)
	memGives(t, fd, reads, r.Start, 8, 8, 0)
	if err := s.Exec(); err != nil {
		t.Fatal(err)
	}
	memGives(t, fd, reads, r.Start, 8, 0, 0)
	memGives(t, fd, writes, r.Start, 8, 0, 0)

	dead := specimentest.Start(t, nil)
	fd = memFile(t, dead)
	r = mapped(t, dead, specimen.Touched, 1)
	if err := dead.Exit(); err != nil {
		t.Fatal(err)
	}
	memGives(t, fd, reads, r.Start, 8, 0, 0)
	if _, err := os.OpenFile(procFile(dead.Pid(), "mem"), os.O_RDONLY, 0); err == nil {
		t.Error("a zombie has a memory")
	}
}
