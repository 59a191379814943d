// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/testneed"
)

// The tests in this file ask the running kernel what the others ask the engine.

func TestMain(m *testing.M) {
	specimen.Main(specimen.Job{Name: "self", Run: selfJob})
	os.Exit(m.Run())
}

// alive is a specimen, and memory of this process that can be named by its address.
type alive struct {
	*specimen.Specimen
	t     *testing.T
	local uint64 // localPages, with nothing behind them
}

const localPages = 8

func newAlive(t *testing.T) *alive {
	t.Helper()
	s := specimentest.Start(t, nil)
	page := uint64(os.Getpagesize())
	a, e := linux.MapAt(0, (localPages+1)*page, linux.ProtRead|linux.ProtWrite, linux.MapPrivate|linux.MapAnonymous, -1, 0)
	if e != 0 {
		t.Fatal(e)
	}
	t.Cleanup(func() { linux.UnmapAt(a, (localPages+1)*page) })
	// a page that nobody may access is as good as a hole, and stays one
	if e := linux.ProtectAt(a+localPages*page, page, linux.ProtNone); e != 0 {
		t.Fatal(e)
	}
	return &alive{s, t, a}
}

func (v *alive) check(n int, e errno.Errno, want result) {
	v.t.Helper()
	if got := (result{n, e}); got != want {
		v.t.Errorf("gave %d and %s, want %d and %s", n, e.Name(), want.n, want.e.Name())
	}
}

// read checks what reading n bytes at a gives.
func (v *alive) read(a remora.Addr, n int, want result) []byte {
	v.t.Helper()
	b := make([]byte, n)
	got, e := ReadBytes(v.Pid(), [][]byte{b}, one(uint64(a), uint64(n)), 0)
	v.check(got, e, want)
	return b[:got]
}

// write checks what writing n bytes at a gives.
func (v *alive) write(a remora.Addr, n int, want result) {
	v.t.Helper()
	got, e := WriteBytes(v.Pid(), [][]byte{bytes.Repeat([]byte{0x5a}, n)}, one(uint64(a), uint64(n)), 0)
	v.check(got, e, want)
}

// put stores a vector in the local memory.
func (v *alive) put(off uint64, vec ...Iovec) uint64 {
	b := linux.BytesAt(v.local+off, len(vec)*16)
	for i, e := range vec {
		binary.NativeEndian.PutUint64(b[i*16:], e.Base)
		binary.NativeEndian.PutUint64(b[i*16+8:], e.Len)
	}
	return v.local + off
}

func TestKernelR20AndR23(t *testing.T) {
	v := newAlive(t)
	page := os.Getpagesize()
	r := specimentest.Layout(t, v.Specimen, specimen.Piece{Kind: specimen.Touched, Pages: 2}, specimen.Piece{Kind: specimen.Hole, Pages: 1})
	all := v.Contents(specimen.Touched, r[0])
	a := uint64(r[0].Start)
	n, e := Readv(v.Pid(), iov(at(v.local, 10), at(v.local+100, 3*uint64(page))), iov(at(a+5, 3), at(0, 0), at(a+20, 3*uint64(page))), 0)
	v.check(n, e, moved(3+2*page-20))
	got := append(bytes.Clone(linux.BytesAt(v.local, 10)), linux.BytesAt(v.local+100, n-10)...)
	if want := append(bytes.Clone(all[5:8]), all[20:]...); !bytes.Equal(got, want) {
		t.Error("other bytes than are there")
	}
	n, e = Writev(v.Pid(), one(v.local, 7), iov(at(a, 3), at(a+10, 4)), 0)
	v.check(n, e, moved(7))
	here := make([]byte, 14)
	if err := v.Peek(here, r[0].Start); err != nil || !bytes.Equal(here[:3], got[:3]) || !bytes.Equal(here[10:], got[3:7]) {
		t.Errorf("% x, %v", here, err)
	}
	v.read(r[1].Start, 1, failed(errno.EFAULT))
	v.write(r[1].Start, 1, failed(errno.EFAULT))
}

// What a C program can pass, right or wrong.
func TestKernelR01ToR14(t *testing.T) {
	if strconv.IntSize != 64 {
		t.Log("arguments of 64 bits have no registers here")
		return
	}
	v := newAlive(t)
	page := uint64(os.Getpagesize())
	r := specimentest.Layout(t, v.Specimen, specimen.Piece{Kind: specimen.Touched, Pages: 2})
	end := v.local + localPages*page
	good := Args{
		PID:  uint64(v.Pid()),
		Lvec: v.put(page, at(v.local, 16)), Liovcnt: 1,
		Rvec: v.put(2*page, at(uint64(r[0].Start), 16)), Riovcnt: 1,
	}
	v.put(localPages*page-16, at(v.local, 8))
	for _, c := range []struct {
		name   string
		change func(a *Args)
		want   result
	}{
		{"nothing", func(*Args) {}, moved(16)},
		{"R1", func(a *Args) { a.PID += 1 << 32 }, moved(16)},
		{"R2", func(a *Args) { a.Flags = 1 << 32 }, failed(errno.EINVAL)},
		{"R2, no elements", func(a *Args) { *a = Args{Flags: 1} }, failed(errno.EINVAL)},
		{"R3, none", func(a *Args) { a.Liovcnt = 1 << 32 }, moved(0)},
		{"R3, one", func(a *Args) { a.Liovcnt += 1 << 32 }, moved(16)},
		{"R3, remote", func(a *Args) { a.Riovcnt += 1 << 32 }, failed(errno.EINVAL)},
		{"R4", func(a *Args) { a.Lvec, a.Liovcnt = 0, 1025 }, failed(errno.EINVAL)},
		{"R4, remote", func(a *Args) { a.Rvec, a.Riovcnt = 0, 1025 }, failed(errno.EINVAL)},
		{"R5", func(a *Args) { *a = Args{Rvec: 1, Riovcnt: 5000} }, moved(0)},
		{"R6", func(a *Args) { a.Lvec = 0 }, failed(errno.EFAULT)},
		{"R6, the second", func(a *Args) { a.Lvec, a.Liovcnt = end-16, 2 }, failed(errno.EFAULT)},
		{"R7", func(a *Args) { a.Lvec = v.put(3*page, at(v.local, 1<<63)) }, failed(errno.EINVAL)},
		{"R8", func(a *Args) { a.Lvec = v.put(3*page, at(1<<63, 1)) }, failed(errno.EFAULT)},
		{"R9", func(a *Args) { a.Lvec = v.put(3*page, at(1<<63, 0)) }, failed(errno.EFAULT)},
		{"R10", func(a *Args) {
			a.Rvec, a.Riovcnt = v.put(3*page, at(uint64(r[0].Start), math.MaxInt64), at(0, math.MaxInt64)), 2
		}, moved(16)},
		{"R12", func(a *Args) { a.Lvec, a.Rvec, a.PID = v.put(3*page, at(0, 0)), 1, 0 }, moved(0)},
		{"R13", func(a *Args) { a.Rvec = 0 }, failed(errno.EFAULT)},
		{"R13, a length", func(a *Args) {
			a.Rvec, a.Riovcnt = v.put(3*page, at(uint64(r[0].Start), 16), at(0, 1<<63)), 2
		}, failed(errno.EINVAL)},
		{"R14", func(a *Args) { a.Rvec, a.PID = v.put(3*page, at(1<<63, 0)), 0 }, moved(0)},
		{"R16", func(a *Args) { a.PID = 0 }, failed(errno.ESRCH)},
		{"R16, negative", func(a *Args) { a.PID = math.MaxUint64 }, failed(errno.ESRCH)},
		{"R46", func(a *Args) { a.Rvec = v.put(3*page, at(1<<63, 16)) }, failed(errno.EFAULT)},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := good
			c.change(&a)
			for _, write := range []bool{false, true} {
				n, e := Syscall(write, a)
				v.check(n, e, c.want)
			}
		})
	}
}

func TestKernelR17(t *testing.T) {
	v := newAlive(t)
	r := specimentest.Layout(t, v.Specimen, specimen.Piece{Kind: specimen.Touched, Pages: 1})
	b := [][]byte{make([]byte, 8)}
	tid, err := v.Thread()
	if err != nil {
		t.Fatal(err)
	}
	n, e := ReadBytes(tid, b, one(uint64(r[0].Start), 8), 0)
	v.check(n, e, moved(8)) // R16
	if name, err := os.ReadFile("/proc/2/comm"); err == nil && string(name) == "kthreadd\n" {
		n, e := ReadBytes(2, b, one(uint64(r[0].Start), 8), 0)
		v.check(n, e, failed(errno.ESRCH))
	}
	if err := v.EndLeader(); err != nil {
		t.Fatal(err)
	}
	v.read(r[0].Start, 8, failed(errno.ESRCH))
	n, e = ReadBytes(tid, b, one(uint64(r[0].Start), 8), 0)
	v.check(n, e, moved(8))
	z := newAlive(t)
	if err := z.Exit(); err != nil {
		t.Fatal(err)
	}
	z.read(r[0].Start, 8, failed(errno.ESRCH))
}

func TestKernelR26AndR38(t *testing.T) {
	v := newAlive(t)
	page := uint64(os.Getpagesize())
	r := specimentest.Layout(t, v.Specimen, specimen.Piece{Kind: specimen.Touched, Pages: 2})
	a, end := uint64(r[0].Start), v.local+localPages*page
	for _, tail := range []uint64{1, 5, 3000} {
		n, e := Readv(v.Pid(), one(end-tail, page), one(a, page), 0)
		v.check(n, e, moved(int(tail)))
		n, e = Writev(v.Pid(), one(end-tail, page), one(a, page), 0)
		v.check(n, e, moved(int(tail)))
	}
	if e := linux.ProtectAt(v.local, page, linux.ProtWrite); e != 0 {
		t.Fatal(e)
	}
	n, e := Writev(v.Pid(), one(v.local, 8), one(a, 8), 0)
	v.check(n, e, moved(8))
	n, e = Readv(v.Pid(), one(v.local, 8), one(a, 8), 0)
	v.check(n, e, moved(8))
	if e := linux.ProtectAt(v.local, page, linux.ProtRead); e != 0 {
		t.Fatal(e)
	}
	n, e = Readv(v.Pid(), one(v.local, 8), one(a, 8), 0)
	v.check(n, e, failed(errno.EFAULT))
}

func TestKernelR28(t *testing.T) {
	v := newAlive(t)
	r := specimentest.Layout(t, v.Specimen, specimen.Piece{Kind: specimen.Untouched, Pages: 1100})
	before := resident(t, v.Pid())
	n, e := Writev(v.Pid(), one(v.local, 1), one(uint64(r[0].Start), r[0].Size), 0)
	v.check(n, e, moved(1))
	if more := resident(t, v.Pid()) - before; more < 1024 || more > 1024+64 {
		t.Errorf("a byte brought %d pages into memory", more)
	}
}

// resident gives the number of pages that a process has in memory.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); f[0] == "Rss:" {
			kib, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return kib << 10 / os.Getpagesize()
		}
	}
	t.Fatal("no Rss")
	return 0
}

func TestKernelR32StoppedTargets(t *testing.T) {
	v := newAlive(t)
	r := specimentest.Layout(t, v.Specimen, specimen.Piece{Kind: specimen.Touched, Pages: 1})
	if err := unix.Kill(v.Pid(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := unix.Kill(v.Pid(), unix.SIGCONT); err != nil {
			t.Error(err)
		}
	}()
	v.read(r[0].Start, 8, moved(8))
	v.write(r[0].Start, 8, moved(8))
}

// Kinds of memory, each with pages before and behind it that can be read and written.
func TestKernelR35ToR47(t *testing.T) {
	page := os.Getpagesize()
	for _, c := range []struct {
		kind        specimen.Kind
		read, write bool
		rule        string
	}{
		{specimen.WriteOnly, false, true, "R35"},
		{specimen.ExecOnly, false, false, "R35"},
		{specimen.ReadOnly, true, false, "R36"},
		{specimen.Text, true, false, "R36"},
		{specimen.SharedReadOnly, true, false, "R36"},
		{specimen.NoAccess, false, false, "R37"},
		{specimen.Reserved, false, false, "R37"},
		{specimen.Untouched, true, true, "R39"},
		{specimen.PrivateFile, true, true, "R40"},
		{specimen.SharedFile, true, true, "R41"},
		{specimen.Secret, false, false, "R44"},
		{specimen.Guard, false, false, "R44"},
		{specimen.Locked, true, true, "R45"},
	} {
		t.Run(c.rule+" "+c.kind.String(), func(t *testing.T) {
			v := newAlive(t)
			r := specimentest.Layout(t, v.Specimen, specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: c.kind, Pages: 1}, specimen.Piece{Kind: specimen.Touched, Pages: 1})
			want := map[bool]result{true: moved(3 * page), false: moved(page)}
			v.read(r[0].Start, 3*page, want[c.read])
			v.write(r[0].Start, 3*page, want[c.write])
		})
	}
}

func TestKernelR42(t *testing.T) {
	v := newAlive(t)
	page := os.Getpagesize()
	r := specimentest.Layout(t, v.Specimen, specimen.Piece{Kind: specimen.FileEnd, Pages: 2})
	got := v.read(r[0].Start, 2*page, moved(page))
	if !bytes.Equal(got[page-specimen.EndGap:], make([]byte, specimen.EndGap)) {
		t.Error("behind the end of the file are no zeros")
	}
	v.read(r[0].Start+remora.Addr(page), 5, failed(errno.EFAULT))
}

func TestKernelR43(t *testing.T) {
	v := newAlive(t)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", v.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(text)) {
		var first, end remora.Addr
		f := strings.Fields(line)
		if _, err := fmt.Sscanf(f[0], "%x-%x", &first, &end); err != nil {
			t.Fatal(err)
		}
		switch f[len(f)-1] {
		case "[vdso]":
			v.read(first, 100, moved(100))
			v.write(first, 100, failed(errno.EFAULT))
			found++
		case "[vvar]":
			v.read(first, 100, failed(errno.EFAULT))
			found++
		}
	}
	if found == 0 {
		testneed.Lacks(t, "the process has neither vdso nor vvar")
	}
}

func TestKernelR47TheStackDoesNotGrow(t *testing.T) {
	v := newAlive(t)
	r := specimentest.Layout(t, v.Specimen, specimen.Piece{Kind: specimen.GrowsDown, Pages: 1})
	v.read(r[0].Start-1, 1, failed(errno.EFAULT))
	v.write(r[0].Start-1, 1, failed(errno.EFAULT))
	v.read(r[0].Start, 1, moved(1))
}

// missing starts a read of three pages, the middle one of which nobody brings, and
// gives what it comes to.
func missing(v *alive) (r []remora.Range, done chan result, data []byte) {
	v.t.Helper()
	r = specimentest.Layout(v.t, v.Specimen, specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: specimen.Missing, Pages: 1}, specimen.Piece{Kind: specimen.Touched, Pages: 1})
	done, data = make(chan result, 1), make([]byte, 3*os.Getpagesize())
	pid := v.Pid()
	go func() {
		n, e := ReadBytes(pid, [][]byte{data}, one(uint64(r[0].Start), uint64(len(data))), 0)
		done <- result{n, e}
	}()
	for limit := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if _, _, ok, err := v.Waiter(); err != nil {
			v.t.Fatal(err)
		} else if ok {
			return r, done, data
		}
		if time.Now().After(limit) {
			v.t.Fatal("nobody waits for the page")
		}
	}
}

func (v *alive) await(done chan result, want result) {
	v.t.Helper()
	select {
	case got := <-done:
		v.check(got.n, got.e, want)
	case <-time.After(20 * time.Second):
		v.t.Fatal("the call does not end")
	}
}

func TestKernelR49ACallWaitsForAPage(t *testing.T) {
	v := newAlive(t)
	page := os.Getpagesize()
	r, done, data := missing(v)
	if len(done) > 0 {
		t.Fatal("the call did not wait")
	}
	put := bytes.Repeat([]byte{0x77}, page)
	if err := v.Resolve(put, r[1].Start); err != nil {
		t.Fatal(err)
	}
	v.await(done, moved(3*page))
	if !bytes.Equal(data[page:2*page], put) || !bytes.Equal(data[:page], v.Contents(specimen.Touched, r[0])) {
		t.Error("other bytes than are there")
	}
}

func TestKernelR50AKilledTargetIsReadToTheEnd(t *testing.T) {
	v := newAlive(t)
	page := os.Getpagesize()
	r, done, data := missing(v)
	if err := v.Kill(); err != nil {
		t.Fatal(err)
	}
	v.await(done, moved(3*page))
	if !bytes.Equal(data[2*page:], v.Contents(specimen.Touched, r[2])) || !bytes.Equal(data[page:2*page], make([]byte, page)) {
		t.Error("other bytes than were there")
	}
	v.read(r[0].Start, 1, failed(errno.ESRCH))
}

// selfJob makes a call of a process under a filter.
func selfJob(out io.Writer, _ []string) error {
	n, e := ReadBytes(os.Getpid(), [][]byte{make([]byte, 1)}, one(0x1000, 1), 0)
	_, err := fmt.Fprintln(out, n, e.Name(), errors.Is(e, errors.ErrUnsupported))
	return err
}

func TestKernelR60KernelsWithout(t *testing.T) {
	for number, want := range map[int]string{int(unix.ENOSYS): "0 ENOSYS true\n", int(unix.EPERM): "0 EPERM false\n"} {
		out, err := specimen.Run(t.Context(), &specimen.RunOptions{RefuseVM: number}, "self")
		if err != nil || out != want {
			t.Errorf("%q, %v; want %q", out, err, want)
		}
	}
}

func TestKernelAll(t *testing.T) {
	v := newAlive(t)
	page := os.Getpagesize()
	r := specimentest.Layout(t, v.Specimen, specimen.Piece{Kind: specimen.Touched, Pages: 2}, specimen.Piece{Kind: specimen.Hole, Pages: 1})
	all := v.Contents(specimen.Touched, r[0])
	var bufs [][]byte
	var remote []Iovec
	for i := range 3000 {
		bufs = append(bufs, make([]byte, 2), nil)
		remote = append(remote, at(1<<63, 0), at(uint64(r[0].Start)+uint64(i)*2, 2))
	}
	n, err := ReadAll(v.Pid(), bufs, remote)
	if n != 6000 || err != nil || !bytes.Equal(bytes.Join(bufs, nil), all[:6000]) {
		t.Errorf("%d, %v", n, err)
	}
	remote[4001].Base = uint64(r[1].Start) - 1
	n, err = WriteAll(v.Pid(), bufs, remote)
	var f *remora.Fault
	if n != 4001 || !errors.As(err, &f) || f.Addr != r[1].Start || !errors.Is(err, remora.ErrFault) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err = ReadAll(-1, bufs, remote); n != 0 || !errors.Is(err, remora.ErrGone) {
		t.Errorf("%d, %v", n, err)
	}
	v.read(r[0].Start, page, moved(page))
}
