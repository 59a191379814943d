// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/testneed"
)

// mapped maps pages of one kind.
func mapped(t testing.TB, s *specimen.Specimen, k specimen.Kind, pages int) remora.Range {
	t.Helper()
	return layOut(t, s, specimen.Piece{Kind: k, Pages: pages})[0].Range
}

// holds reads what memory of a kind holds at first, and wants that.
func holds(t testing.TB, p *Process, s *specimen.Specimen, k specimen.Kind, r remora.Range) {
	t.Helper()
	got := make([]byte, r.Size)
	if _, err := p.Memory().ReadAt(t.Context(), got, r.Start); err != nil {
		t.Errorf("%v of %v: %v", k, r, err)
	} else if !bytes.Equal(got, s.Contents(k, r)) {
		t.Errorf("%v of %v: other bytes than it holds", k, r)
	}
}

// wantNothing reads and writes, and wants it to fail whole.
func wantNothing(t testing.TB, p *Process, a remora.Addr, want error) {
	t.Helper()
	for _, op := range []remora.Op{remora.Read, remora.Read | remora.Resident, remora.Read | remora.Force, remora.Write, remora.Write | remora.Force} {
		segs := []remora.Seg{{Addr: a, Buf: make([]byte, 8)}, {Addr: a + 16, Buf: make([]byte, 8)}}
		if n, err := p.Memory().Transfer(t.Context(), op, segs); n != 0 || !errors.Is(err, want) || !errors.Is(segs[1].Err, want) {
			t.Errorf("%v through %v: %d, %v, %v, want %v", op, p.opts.Door, n, err, segs[1].Err, want)
		}
	}
}

// waitStuck waits until somebody waits for a page of Missing memory.
func waitStuck(t testing.TB, s *specimen.Specimen) remora.Addr {
	t.Helper()
	var at remora.Addr
	await(t, "somebody waits for a missing page", func() bool {
		a, _, ok, err := s.Waiter()
		if err != nil {
			t.Fatal(err)
		}
		at = a
		return ok
	})
	return at
}

func TestOpenOfWhatIsNoProcess(t *testing.T) {
	s := specimentest.Start(t, nil)
	pids := []int{0, -1, 1 << 22, 1<<31 - 1, -1 << 31}
	if strconv.IntSize == 64 {
		pids = append(pids, s.Pid()|1<<(strconv.IntSize/2)) // not cut to 32 bits
	}
	for _, pid := range pids {
		_, err := Open(pid, nil)
		if !errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			t.Errorf("pid %d: %v", pid, err)
		}
	}
	if err := s.Exit(); err != nil {
		t.Fatal(err)
	}
	for _, d := range append(doors(), DoorAuto) {
		_, err := Open(s.Pid(), &Options{Door: d})
		if !errors.Is(err, remora.ErrGone) || !strings.Contains(err.Error(), "zombie") {
			t.Errorf("a zombie, %v: %v", d, err)
		}
	}
}

func TestOpenOfAKernelThread(t *testing.T) {
	st, err := readStatus(2)
	if err != nil || !kernelThread(st) {
		testneed.Lacks(t, "process 2 is no kernel thread here")
	}
	for _, d := range append(doors(), DoorAuto) {
		_, err = Open(2, &Options{Door: d})
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "kernel thread") {
			t.Errorf("%v: %v", d, err)
		}
	}
}

func TestGoneAfterTheEnd(t *testing.T) {
	for _, d := range doors() {
		for name, end := range map[string]func(*specimen.Specimen) error{
			"exit": (*specimen.Specimen).Exit, "kill": (*specimen.Specimen).Kill, "reaped": (*specimen.Specimen).Close,
			"exec": (*specimen.Specimen).Exec,
		} {
			t.Run(fmt.Sprint(d, " ", name), func(t *testing.T) {
				s := specimentest.Start(t, nil)
				r := mapped(t, s, specimen.Touched, 1)
				p := openProcess(t, s.Pid(), &Options{Door: d, Write: true})
				holds(t, p, s, specimen.Touched, r)
				if err := end(s); err != nil {
					t.Fatal(err)
				}
				wantNothing(t, p, r.Start, remora.ErrGone)
				for _, err := range p.Regions(t.Context()) {
					if err != nil && !errors.Is(err, remora.ErrGone) {
						t.Errorf("Regions: %v", err)
					}
				}
				if _, err := p.Describe(t.Context()); !errors.Is(err, remora.ErrGone) {
					t.Errorf("Describe: %v", err)
				}
			})
		}
	}
}

// A call that is under way keeps the old memory alive (R50): what it moves is from
// the past, and must not be taken for the target's.
func TestEndInTheMiddleOfARead(t *testing.T) {
	for name, end := range map[string]func(*specimen.Specimen) error{
		"kill": (*specimen.Specimen).Kill, "exec": (*specimen.Specimen).Exec,
	} {
		t.Run(name, func(t *testing.T) {
			s := specimentest.Start(t, nil)
			r := mapped(t, s, specimen.Missing, 1)
			p := openProcess(t, s.Pid(), &Options{Door: DoorVM})
			done := make(chan error)
			go func() {
				_, err := p.Memory().Transfer(context.Background(), remora.Read, []remora.Seg{{Addr: r.Start, Buf: make([]byte, 100)}})
				done <- err
			}()
			waitStuck(t, s)
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			if err := <-done; !errors.Is(err, remora.ErrGone) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The kernel waits for a userfaultfd in process_vm_* alone.
func TestMissingPagesThroughOtherDoors(t *testing.T) {
	s := specimentest.Start(t, nil)
	r := mapped(t, s, specimen.Missing, 1)
	for _, o := range []Options{{Door: DoorMem}, {Door: DoorPtrace}} {
		p := openProcess(t, s.Pid(), &o)
		if _, err := p.Memory().ReadAt(t.Context(), make([]byte, 1), r.Start); !errors.Is(err, remora.ErrFault) {
			t.Errorf("%v: %v", o.Door, err)
		}
	}
	for _, d := range doors() {
		p := openProcess(t, s.Pid(), &Options{Door: d})
		_, err := p.Memory().With(remora.Resident).ReadAt(t.Context(), make([]byte, 1), r.Start)
		if !errors.Is(err, remora.ErrNotPresent) {
			t.Errorf("resident, %v: %v", d, err)
		}
	}
}

func TestFollowExecGoesOn(t *testing.T) {
	for _, d := range doors() {
		t.Run(d.String(), func(t *testing.T) {
			s := specimentest.Start(t, nil)
			r := mapped(t, s, specimen.Touched, 2)
			p := openProcess(t, s.Pid(), &Options{Door: d, FollowExec: true, Write: true})
			holds(t, p, s, specimen.Touched, r)
			for range 2 {
				if err := s.Exec(); err != nil {
					t.Fatal(err)
				}
				wantNothing(t, p, r.Start, remora.ErrUnmapped)
				if again := mapped(t, s, specimen.Touched, 2); again != r {
					t.Fatalf("%v, before %v", again, r)
				}
				holds(t, p, s, specimen.Touched, r)
			}
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			wantNothing(t, p, r.Start, remora.ErrGone)
		})
	}
}

func TestThreadIDsAndEndedLeaders(t *testing.T) {
	for _, d := range append(doors(), DoorAuto) {
		t.Run(d.String(), func(t *testing.T) {
			s := specimentest.Start(t, nil)
			r := mapped(t, s, specimen.Touched, 2)
			tid, err := s.Thread()
			if err != nil {
				t.Fatal(err)
			}
			before := openProcess(t, s.Pid(), &Options{Door: d})
			thread := openProcess(t, tid, &Options{Door: d})
			holds(t, before, s, specimen.Touched, r)
			holds(t, thread, s, specimen.Touched, r)
			if facts, err := thread.Describe(t.Context()); err != nil || !strings.Contains(facts[1].Value, "a thread of "+strconv.Itoa(s.Pid())) {
				t.Errorf("%v, %v", facts, err)
			}
			if err := s.EndLeader(); err != nil {
				t.Fatal(err)
			}
			after := openProcess(t, s.Pid(), &Options{Door: d})
			for _, p := range []*Process{before, thread, after} {
				holds(t, p, s, specimen.Touched, r)
			}
			if facts, err := after.Describe(t.Context()); err != nil || !strings.Contains(facts[1].Value, "first thread has ended") {
				t.Errorf("%v, %v", facts, err)
			}
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			for i, p := range []*Process{before, thread, after} {
				if _, err := p.Memory().ReadAt(t.Context(), make([]byte, 1), r.Start); !errors.Is(err, remora.ErrGone) {
					t.Errorf("handle %d after the end: %v", i, err)
				}
			}
		})
	}
}

// A new process under the number of the old one, with memory at the same
// addresses, is never taken for it.
func TestReuseOfTheNumber(t *testing.T) {
	testneed.Root(t)
	const lastPid = "/proc/sys/kernel/ns_last_pid"
	if _, err := os.Stat(lastPid); err != nil {
		testneed.Lacks(t, "the number of the next process cannot be chosen")
	}
	s := specimentest.Start(t, nil)
	pid := s.Pid()
	r := mapped(t, s, specimen.Touched, 1)
	var old []*Process
	for _, d := range doors() {
		old = append(old, openProcess(t, pid, &Options{Door: d, Write: true}), openProcess(t, pid, &Options{Door: d, Write: true, FollowExec: true}))
	}
	for _, p := range old {
		holds(t, p, s, specimen.Touched, r)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var other *specimen.Specimen
	await(t, "a process gets the old number", func() bool {
		if err := os.WriteFile(lastPid, []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Fatal(err)
		}
		next, err := specimen.Start(t.Context(), &specimen.Options{Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if next.Pid() != pid {
			next.Close()
			return false
		}
		other = next
		return true
	})
	defer other.Close()
	if again := mapped(t, other, specimen.Touched, 1); again != r {
		t.Fatalf("%v, before %v", again, r)
	}
	for _, p := range old {
		wantNothing(t, p, r.Start, remora.ErrGone)
	}
	holds(t, openProcess(t, pid, nil), other, specimen.Touched, r)
	got := make([]byte, r.Size)
	if err := other.Peek(got, r.Start); err != nil || !bytes.Equal(got, other.Contents(specimen.Touched, r)) {
		t.Errorf("the new process was written to (%v)", err)
	}
}

// Close waits for a call that the kernel does not let end.
func TestCloseDuringATransfer(t *testing.T) {
	s := specimentest.Start(t, nil)
	r := mapped(t, s, specimen.Missing, 1)
	p := openProcess(t, s.Pid(), nil)
	buf := make([]byte, 100)
	read, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := p.Memory().Transfer(context.Background(), remora.Read, []remora.Seg{{Addr: r.Start, Buf: buf}})
		read <- err
	}()
	waitStuck(t, s)
	go func() { closed <- p.Close() }()
	await(t, "Close has begun", p.gate.Closed)
	time.Sleep(5 * time.Millisecond) // for a Close that does not wait to show itself
	select {
	case err := <-closed:
		t.Fatalf("Close returned (%v) while a call was inside", err)
	default:
	}
	data := make([]byte, r.Size)
	specimen.Pattern(data, r.Start, 1)
	if err := s.Resolve(data, r.Start); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil || !bytes.Equal(buf, data[:100]) {
		t.Errorf("the read: %v", err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// What is unmapped while a read runs ends it at the exact page, or not at all.
func TestUnmapInTheMiddleOfReads(t *testing.T) {
	for _, o := range []Options{{Door: DoorVM}, {Door: DoorVM, Parallel: 2}, {Door: DoorMem}, {Door: DoorPtrace}} {
		t.Run(fmt.Sprint(o.Door, " ", o.Parallel), func(t *testing.T) {
			pages := 8 << 20 / pageSize
			if o.Door == DoorPtrace {
				pages = 8
			}
			s := specimentest.Start(t, nil)
			p := openProcess(t, s.Pid(), &o)
			for round := range 5 {
				if err := s.Reset(); err != nil {
					t.Fatal(err)
				}
				r := mapped(t, s, specimen.Touched, pages)
				want := s.Contents(specimen.Touched, r)
				hole := remora.Range{Start: r.Start + remora.Addr((1+round*(pages-2)/4)*pageSize), Size: uint64(pageSize)}
				var unmapped atomic.Bool
				gone := make(chan error, 1)
				go func() {
					err := s.Unmap(hole)
					unmapped.Store(true)
					gone <- err
				}()
				buf := make([]byte, r.Size)
				for last := false; !last; time.Sleep(100 * time.Microsecond) { // the target waits for the lock that reads hold
					last = unmapped.Load()
					seg := []remora.Seg{{Addr: r.Start, Buf: buf}}
					n, err := p.Memory().Transfer(context.Background(), remora.Read, seg)
					stopped := n == int64(hole.Start-r.Start) && err == remora.ErrUnmapped
					if !stopped && (last || n != int64(r.Size) || err != nil) {
						t.Fatalf("round %d: %d bytes, %v, the hole is at %d", round, n, err, hole.Start-r.Start)
					}
					if !bytes.Equal(seg[0].Buf[:n], want[:n]) {
						t.Fatal("other bytes than it holds")
					}
				}
				if err := <-gone; err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A call that sleeps on its first page finds what has changed behind it.
func TestUnmapBehindAStuckPage(t *testing.T) {
	s := specimentest.Start(t, nil)
	areas := layOut(t, s, specimen.Piece{Kind: specimen.Missing, Pages: 1}, specimen.Piece{Kind: specimen.Touched, Pages: 3})
	p := openProcess(t, s.Pid(), &Options{Door: DoorVM})
	seg := []remora.Seg{{Addr: areas[0].Start, Buf: make([]byte, 4*pageSize)}}
	done := make(chan error)
	go func() {
		_, err := p.Memory().Transfer(context.Background(), remora.Read, seg)
		done <- err
	}()
	waitStuck(t, s)
	if err := s.Unmap(remora.Range{Start: areas[1].Start + remora.Addr(pageSize), Size: uint64(pageSize)}); err != nil {
		t.Fatal(err)
	}
	if err := s.Release(areas[0].Range); err != nil {
		t.Fatal(err)
	}
	want := append(make([]byte, pageSize), s.Contents(specimen.Touched, areas[1].Range)[:pageSize]...)
	if err := <-done; err != remora.ErrUnmapped || seg[0].N != 2*pageSize || !bytes.Equal(seg[0].Buf[:seg[0].N], want) {
		t.Errorf("%d bytes, %v", seg[0].N, err)
	}
}

// The number of a closed descriptor is soon another file's, so what may use one keeps
// it open.
func TestDescriptorsStayForTheirLastUser(t *testing.T) {
	fd, errno := linux.Open("/proc/self/mem", linux.RDONLY)
	if errno != 0 {
		t.Fatal(errno)
	}
	open := func() bool {
		name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		return err == nil && strings.HasSuffix(name, "/mem")
	}
	as := &addressSpace{maps: -1, mem: fd, pagemap: -1}
	as.hold()
	as.drop() // as by Close
	if !open() {
		t.Error("closed under the call")
	}
	if as.drop(); open() {
		t.Error("still open")
	}
}

func TestCloseLeavesNothingOpen(t *testing.T) {
	s := specimentest.Start(t, nil)
	r := mapped(t, s, specimen.Touched, 1)
	count := func() int {
		all, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, d := range doors() {
		before := count()
		for range 3 {
			p, err := Open(s.Pid(), &Options{Door: d, FollowExec: true})
			if err != nil {
				t.Fatal(err)
			}
			segs := []remora.Seg{{Addr: r.Start, Buf: make([]byte, 8)}}
			for _, op := range []remora.Op{remora.Read, remora.Force, remora.Resident} {
				if _, err := p.Memory().Transfer(ctx, op, segs); err != nil {
					t.Errorf("%v: %v", d, err)
				}
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		}
		if after := count(); after > before {
			t.Errorf("%v: %d descriptors before, %d after", d, before, after)
		}
	}
}
