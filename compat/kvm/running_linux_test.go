// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/testneed"
)

// TestR89LiveRunningSystem: each name of the running system opens it, and what it has
// not is missed only when it is asked for.
func TestR89LiveRunningSystem(t *testing.T) {
	for _, name := range []string{"", "/dev/mem", "/dev/kmem", "/dev/allkmem", "/proc/kcore"} {
		for _, flag := range []int{os.O_RDONLY, os.O_RDWR} {
			h, err := Open("", name, "", flag, "")
			if err != nil {
				t.Fatalf("%q: %v", name, err)
			}
			if p := getProc(t, h, os.Getpid()); p.PPID != os.Getppid() {
				t.Errorf("%q: %+v", name, p)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestR91LiveNamelistOfTheRunningSystem(t *testing.T) {
	_, err := Open(writeFile(t, "names", "no symbols here\n"), "", "", os.O_RDONLY, "")
	wantError(t, err, errno.EINVAL, remora.ErrUnrecognized)
	_, err = Open("/nonexistent/namelist", "", "", os.O_RDONLY, "")
	wantError(t, err, errno.ENOENT, fs.ErrNotExist)
	h, err := Open(writeFile(t, "names", systemMap), "", "", os.O_RDONLY, "")
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	list := []Nlist{{Name: "init_task"}}
	if n, err := h.NList(t.Context(), list); n != 0 || err != nil || list[0].Value != 0xffffffff82000000 {
		t.Errorf("%d, %v, %+v", n, err, list)
	}
}

// TestR99LiveProcessMemory: a handle reads and writes a process, without a leak.
func TestR99LiveProcessMemory(t *testing.T) {
	s := specimentest.Start(t, nil)
	r, err := s.Map(specimen.Touched, 3)
	if err != nil {
		t.Fatal(err)
	}
	before := descriptors(t)
	h, err := Open("", "", "", os.O_RDWR, "")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		getProc(t, h, os.Getppid())
		if _, err := h.URead(t.Context(), make([]byte, 1), 0x1000); err == nil {
			t.Error("the first page of a process could be read")
		}
		getProc(t, h, s.Pid())
		got := make([]byte, r.Size)
		n, err := h.URead(t.Context(), got, r.Start)
		wantAll(t, n, err, len(got))
		if !bytes.Equal(got, s.Contents(specimen.Touched, r)) {
			t.Fatal("wrong bytes")
		}
	}
	n, err := h.UWrite(t.Context(), []byte("written"), r.Start+page-3)
	wantAll(t, n, err, 7)
	got := make([]byte, 7)
	if err := s.Peek(got, r.Start+page-3); err != nil || string(got) != "written" {
		t.Errorf("%q, %v", got, err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d open files before, %d after", before, after)
	}
	ro := openRunningSystem(t, nil, os.O_RDONLY)
	getProc(t, ro, s.Pid())
	n, err = ro.UWrite(t.Context(), []byte("x"), r.Start)
	wantFailed(t, n, err, errno.EBADF, remora.ErrReadOnly)
}

// TestR99LiveProcessThatIsGone: a zombie, one that was waited for, and another one with
// the same number.
func TestR99LiveProcessThatIsGone(t *testing.T) {
	for _, opened := range []bool{false, true} {
		h := openRunningSystem(t, nil, os.O_RDWR)
		s := specimentest.Start(t, nil)
		r, err := s.Map(specimen.Touched, 1)
		if err != nil {
			t.Fatal(err)
		}
		p := getProc(t, h, s.Pid())
		buf := make([]byte, 8)
		if opened {
			n, err := h.URead(t.Context(), buf, r.Start)
			wantAll(t, n, err, 8)
		}
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		for _, call := range []transfer{h.URead, h.UWrite} {
			n, err := call(t.Context(), buf, r.Start)
			wantFailed(t, n, err, errno.ENOENT, remora.ErrGone)
		}
		zombie := getProc(t, h, s.Pid())
		if zombie.State != 'Z' {
			t.Errorf("state %c", zombie.State)
		}
		n, err := h.URead(t.Context(), buf, r.Start)
		wantFailed(t, n, err, errno.ENOENT, remora.ErrGone)
		if _, _, err := h.GetCmd(t.Context(), zombie, nil); !errors.Is(err, remora.ErrGone) {
			t.Errorf("%v: want that it is gone", err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		h.GetU(p)
		n, err = h.URead(t.Context(), buf, r.Start)
		if n != -1 || !errors.Is(err, errno.ENOENT) {
			t.Errorf("%d, %v: want ENOENT", n, err)
		}
		_, err = h.GetProc(t.Context(), p.PID)
		wantError(t, err, errno.ESRCH, fs.ErrNotExist)
	}
	h := openRunningSystem(t, nil, os.O_RDONLY)
	self := *getProc(t, h, os.Getpid())
	self.Start-- // as if the number had belonged to another before
	h.GetU(&self)
	n, err := h.URead(t.Context(), make([]byte, 1), 0x1000)
	wantFailed(t, n, err, errno.ENOENT, remora.ErrGone)
}

// TestR99LiveFollowsExec: as the file is opened anew in each call, an execve is followed.
func TestR99LiveFollowsExec(t *testing.T) {
	h := openRunningSystem(t, nil, os.O_RDONLY)
	s := specimentest.Start(t, nil)
	r, err := s.Map(specimen.Touched, 1)
	if err != nil {
		t.Fatal(err)
	}
	before := getProc(t, h, s.Pid())
	buf := make([]byte, 8)
	n, err := h.URead(t.Context(), buf, r.Start)
	wantAll(t, n, err, 8)
	if err := s.Exec(); err != nil {
		t.Fatal(err)
	}
	n, err = h.URead(t.Context(), buf, r.Start)
	wantShort(t, n, err, 0, r.Start, remora.ErrUnmapped)
	if _, err := s.MapAt(r.Start, specimen.Touched, 1); err != nil {
		t.Fatal(err)
	}
	n, err = h.URead(t.Context(), buf, r.Start)
	wantAll(t, n, err, 8)
	if now := getProc(t, h, s.Pid()); now.User != before.User { // the stack is at random
		_, _, err = h.GetCmd(t.Context(), before, nil)
		if err == nil {
			t.Error("GetCmd read the arguments of one program from the memory of another")
		}
	}
}

// TestR99LivePermission: who may not open the process gets EACCES, and GetCmd -1.
func TestR99LivePermission(t *testing.T) {
	if os.Geteuid() != 0 {
		testneed.Lacks(t, "needs root")
	}
	s := specimentest.Start(t, nil)
	got, err := specimen.Run(t.Context(), &specimen.RunOptions{As: &specimen.Identity{UID: 65534, GID: 65534}}, "stranger", fmt.Sprint(s.Pid()))
	if want := "-1 EACCES EACCES true"; err != nil || got != want {
		t.Errorf("%q, %v: want %q", got, err, want)
	}
}

// TestR100LiveProcessAccess: where a transfer of a live process ends, and what it is then.
func TestR100LiveProcessAccess(t *testing.T) {
	h := openRunningSystem(t, nil, os.O_RDWR)
	s := specimentest.Start(t, nil)
	areas, err := s.Layout(specimen.Piece{Kind: specimen.Touched, Pages: 2}, specimen.Piece{Kind: specimen.Hole, Pages: 1},
		specimen.Piece{Kind: specimen.NoAccess, Pages: 1}, specimen.Piece{Kind: specimen.ReadOnly, Pages: 1},
		specimen.Piece{Kind: specimen.Text, Pages: 1}, specimen.Piece{Kind: specimen.Untouched, Pages: 1},
		specimen.Piece{Kind: specimen.Hole, Pages: 1})
	if err != nil {
		t.Fatal(err)
	}
	touched, hole, last := areas[0], areas[1], areas[5]
	getProc(t, h, s.Pid())
	buf := make([]byte, 100)

	n, err := h.URead(t.Context(), buf, hole.Start-30)
	wantShort(t, n, err, 30, hole.Start, remora.ErrUnmapped)
	if !bytes.Equal(buf[:30], s.Contents(specimen.Touched, touched)[touched.Size-30:]) {
		t.Error("wrong bytes")
	}
	n, err = h.URead(t.Context(), buf, hole.Start) // 0, not -1
	wantShort(t, n, err, 0, hole.Start, remora.ErrUnmapped)
	n, err = h.UWrite(t.Context(), buf, hole.Start)
	wantFailed(t, n, err, errno.EIO, remora.ErrUnmapped)
	n, err = h.UWrite(t.Context(), buf, hole.Start-30)
	wantShort(t, n, err, 30, hole.Start, remora.ErrUnmapped)

	for _, a := range []remora.Addr{0, 1 << 47, 0xffff800000000000, remora.MaxAddr} {
		n, err = h.URead(t.Context(), buf, a)
		if n != 0 || err == nil {
			t.Errorf("%v: %d, %v: want 0", a, n, err)
		}
		n, err = h.UWrite(t.Context(), buf, a)
		wantFailed(t, n, err, errno.EIO, remora.ErrFault)
	}

	// One read across pages of every protection; never touched is zeros here.
	got := make([]byte, last.Last()-hole.Last())
	n, err = h.URead(t.Context(), got, hole.Last()+1)
	wantAll(t, n, err, len(got))
	want := slices.Concat(s.Contents(specimen.NoAccess, areas[2]), s.Contents(specimen.ReadOnly, areas[3]), s.Contents(specimen.Text, areas[4]), make([]byte, last.Size))
	if !bytes.Equal(got, want) {
		t.Error("wrong bytes")
	}
	for _, r := range areas[2:5] {
		n, err = h.UWrite(t.Context(), []byte("override"), r.Start+5)
		wantAll(t, n, err, 8)
		if err := s.Protect(r, remora.PermRead); err != nil {
			t.Fatal(err)
		}
		if err := s.Peek(buf[:8], r.Start+5); err != nil || string(buf[:8]) != "override" {
			t.Errorf("%v: %q, %v", r, buf[:8], err)
		}
	}
	n, err = h.URead(t.Context(), buf, last.Last()+1)
	wantShort(t, n, err, 0, last.Last()+1, remora.ErrUnmapped)
}

// TestR100LivePrivateCopy: writing a private mapping leaves what others see alone.
func TestR100LivePrivateCopy(t *testing.T) {
	h := openRunningSystem(t, nil, os.O_RDWR)
	s := specimentest.Start(t, nil)
	areas, err := s.Layout(specimen.Piece{Kind: specimen.SharedFile, Pages: 1}, specimen.Piece{Kind: specimen.PrivateAlias, Pages: 1})
	if err != nil {
		t.Fatal(err)
	}
	shared, private := areas[0], areas[1]
	was := make([]byte, 8)
	if err := s.Peek(was, shared.Start); err != nil {
		t.Fatal(err)
	}
	getProc(t, h, s.Pid())
	n, err := h.UWrite(t.Context(), []byte("own copy"), private.Start)
	wantAll(t, n, err, 8)
	now := make([]byte, 8)
	if err := s.Peek(now, shared.Start); err != nil || !bytes.Equal(now, was) {
		t.Errorf("% x, %v: the file changed", now, err)
	}
	if err := s.Peek(now, private.Start); err != nil || string(now) != "own copy" {
		t.Errorf("%q, %v", now, err)
	}
}

// TestR100LiveSystemProcess: a kernel thread has nothing to read.
func TestR100LiveSystemProcess(t *testing.T) {
	h := openRunningSystem(t, nil, os.O_RDWR)
	p, err := h.GetProc(t.Context(), 2)
	if err != nil || !p.System {
		testneed.Lacks(t, "process 2 is no kernel thread here")
	}
	n, err := h.URead(t.Context(), make([]byte, 8), 0x1000)
	if n != 0 || err == nil {
		t.Errorf("%d, %v: want 0", n, err)
	}
	n, err = h.UWrite(t.Context(), make([]byte, 8), 0x1000)
	wantFailed(t, n, err, errno.EIO, remora.ErrUnmapped)
	_, _, err = h.GetCmd(t.Context(), p, nil)
	wantError(t, err, errno.EIO, remora.ErrUnmapped)
}

// TestR102LiveNextProcIsProc: every process that is there before and after the walk is
// met exactly once, and nothing is met that was never there.
func TestR102LiveNextProcIsProc(t *testing.T) {
	specimentest.Start(t, nil)
	h := openRunningSystem(t, nil, os.O_RDONLY)
	for range 5 {
		before := processNumbers(t)
		met := map[int]int{}
		for {
			p, err := h.NextProc(t.Context())
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			met[p.PID]++
		}
		after := processNumbers(t)
		steady := 0
		for pid := range before {
			if after[pid] {
				steady++
				if met[pid] != 1 {
					t.Errorf("process %d was met %d times", pid, met[pid])
				}
			}
		}
		for pid, n := range met {
			if n != 1 {
				t.Errorf("process %d was met %d times", pid, n)
			}
		}
		if steady < 3 || met[os.Getpid()] != 1 {
			t.Errorf("%d processes stayed; ourselves met %d times", steady, met[os.Getpid()])
		}
		h.SetProc()
	}
}

// TestLiveOverlayOfTheRunningSystem: what is written to processes is kept, for each apart,
// also when another one is current meanwhile; the processes are not changed.
func TestLiveOverlayOfTheRunningSystem(t *testing.T) {
	h, err := OpenWith(t.Context(), &Options{Overlay: true}, "", "", "", os.O_RDWR, "")
	if err != nil {
		t.Fatal(err)
	}
	type one struct {
		*specimen.Specimen
		remora.Range
	}
	var all []one
	for range 2 {
		s := specimentest.Start(t, nil)
		r, err := s.Map(specimen.ReadOnly, 1)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one{s, r})
	}
	opened := descriptors(t)
	for round := range 2 {
		for i, s := range all {
			getProc(t, h, s.Pid())
			want := []byte(fmt.Sprint("overlay ", i))
			if round == 0 {
				n, err := h.UWrite(t.Context(), want, s.Start)
				wantAll(t, n, err, len(want))
			}
			got := make([]byte, len(want))
			n, err := h.URead(t.Context(), got, s.Start)
			wantAll(t, n, err, len(got))
			if !bytes.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
			if err := s.Peek(got, s.Start); err != nil || !bytes.Equal(got, s.Contents(specimen.ReadOnly, s.Range)[:len(got)]) {
				t.Errorf("the process was changed: %q, %v", got, err)
			}
		}
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	if after := descriptors(t); after != opened {
		t.Errorf("%d open files before, %d after", opened, after)
	}
}
