// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/proc"
)

// liveKinds are the kinds of memory of a live process. Numbers are those that FreeBSD
// would give.
func liveKinds() []struct {
	kind        specimen.Kind
	read, write errno.Errno
} {
	const no = errno.EFAULT
	return []struct {
		kind        specimen.Kind
		read, write errno.Errno
	}{
		{specimen.Touched, 0, 0},
		{specimen.Untouched, 0, 0},
		{specimen.ZeroPage, 0, 0},
		{specimen.ReadOnly, 0, 0},
		{specimen.Text, 0, 0},
		{specimen.PrivateFile, 0, 0},
		{specimen.UnreadFile, 0, 0},
		{specimen.FileEnd, 0, 0},
		{specimen.Locked, 0, 0},
		{specimen.SharedFile, 0, 0},
		{specimen.SharedMemory, 0, 0},
		{specimen.NoAccess, no, no},
		{specimen.Reserved, no, no},
		{specimen.WriteOnly, no, no}, // process_vm_writev would write it (R36)
		{specimen.ExecOnly, no, no},
		{specimen.Guard, no, no},
		{specimen.Hole, no, no},
	}
}

func TestR74LiveEveryKindOfPage(t *testing.T) {
	for _, c := range liveKinds() {
		t.Run(c.kind.String(), func(t *testing.T) {
			s := specimentest.Start(t, nil)
			at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: c.kind, Pages: 1})[1]
			p := live(t, s.Pid())
			page := os.Getpagesize()
			buf := make([]byte, page)
			u := &Uio{Iov: []Iovec{{Buf: buf}}, Offset: at.Start, Resid: int64(page)}
			wantErrno(t, p.RWMem(t.Context(), u), c.read)
			if c.read == 0 && !bytes.Equal(buf, s.Contents(c.kind, at)) {
				t.Error("read other bytes than it holds")
			}
			u = &Uio{Iov: []Iovec{{Buf: []byte("breakpoint")}}, Offset: at.Start + 9, Resid: 10, RW: UIOWrite}
			wantErrno(t, p.RWMem(t.Context(), u), c.write)
			if c.write != 0 {
				wantProgress(t, u, at.Start+9, 10, 0)
				return
			}
			wantProgress(t, u, at.Start+9, 10, 10)
			want := s.Contents(c.kind, at)
			copy(want[9:], "breakpoint")
			if !bytes.Equal(peek(t, s, at.Start, len(want)), want) {
				t.Error("holds other bytes than were written")
			}
		})
	}
}

// What was refused to be written is as it was, seen once its protection is lifted.
func TestR74LiveRefusedIsUntouched(t *testing.T) {
	s := specimentest.Start(t, nil)
	for _, k := range []specimen.Kind{specimen.NoAccess, specimen.WriteOnly, specimen.ExecOnly} {
		at := specimentest.Layout(t, s, specimen.Piece{Kind: k, Pages: 2})[0]
		_, err := live(t, s.Pid()).WriteMem(t.Context(), nil, []byte("xxxx"), at.Start+4)
		wantErrno(t, err, errno.EFAULT)
		if !errors.Is(err, remora.ErrProtected) {
			t.Errorf("%v: %v", k, err)
		}
		if err := s.Protect(at, r); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(peek(t, s, at.Start, int(at.Size)), s.Contents(specimen.Touched, at)) {
			t.Errorf("%v was written", k)
		}
	}
}

// A breakpoint in text is seen by the process, and not by the file behind it, nor by
// others who map it.
func TestR74LivePrivateCopy(t *testing.T) {
	s := specimentest.Start(t, nil)
	at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.SharedFile, Pages: 1}, specimen.Piece{Kind: specimen.PrivateAlias, Pages: 1},
		specimen.Piece{Kind: specimen.Alias, Pages: 1})
	if err := s.Protect(at[1], r|x); err != nil {
		t.Fatal(err)
	}
	p := live(t, s.Pid())
	if n, err := p.WriteMem(t.Context(), nil, []byte{0xcc}, at[1].Start+5); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	file := s.Contents(specimen.SharedFile, at[0])
	if !bytes.Equal(peek(t, s, at[0].Start, len(file)), file) || !bytes.Equal(peek(t, s, at[2].Start, len(file)), file) {
		t.Error("the file was written")
	}
	file[5] = 0xcc
	if !bytes.Equal(peek(t, s, at[1].Start, len(file)), file) {
		t.Error("the private copy holds other bytes")
	}
	for i, reg := range regions(t, s.Pid(), at[1]) {
		if reg.Perm != r|x || reg.Shared {
			t.Errorf("region %d became %v", i, reg)
		}
	}
}

func regions(t testing.TB, pid int, in remora.Range) (all []remora.Region) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for reg, err := range proc.ParseMaps(f) {
		if err != nil {
			t.Fatal(err)
		}
		if !reg.Intersect(in).Empty() {
			all = append(all, reg)
		}
	}
	return all
}

// A shared mapping that is read-only now, of a file that was opened for writing: its
// maximum protection has write, so it is changed in place.
func TestR74LiveSharedReadOnlyNow(t *testing.T) {
	testneed.Root(t)
	for _, k := range []specimen.Kind{specimen.SharedFile, specimen.SharedMemory, specimen.SharedReadOnly} {
		t.Run(k.String(), func(t *testing.T) {
			s := specimentest.Start(t, nil)
			at := specimentest.Layout(t, s, specimen.Piece{Kind: k, Pages: 3}, specimen.Piece{Kind: specimen.Alias, Pages: 3})
			if err := s.Protect(at[0], r); err != nil {
				t.Fatal(err)
			}
			p := live(t, s.Pid())
			page := remora.Addr(os.Getpagesize())
			data := bytes.Repeat([]byte("remora"), int(page)/6+2)
			from := at[0].Start + page - 7
			if n, err := p.WriteMem(t.Context(), nil, data, from); n != len(data) || err != nil {
				t.Fatal(n, err)
			}
			want := s.Contents(k, at[0])
			copy(want[from-at[0].Start:], data)
			for i := range at {
				if !bytes.Equal(peek(t, s, at[i].Start, len(want)), want) {
					t.Errorf("mapping %d holds other bytes", i)
				}
			}
			wantErrno(t, p.RWMem(t.Context(), &Uio{Offset: from, RW: UIOWrite}), 0)
		})
	}
}

// ownShared maps a new file, shared and read-only, through a descriptor opened with
// flags, in this process.
func ownShared(t testing.TB, flags int, size, mapped int) (a remora.Addr, mem []byte, name string) {
	t.Helper()
	name = t.TempDir() + "/file"
	if err := os.WriteFile(name, bytes.Repeat([]byte{7}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(name, flags, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	mem, err = unix.Mmap(int(f.Fd()), 0, mapped, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Munmap(mem); err != nil {
			t.Error(err)
		}
	})
	return addrOf(mem), mem, name
}

// The file was opened for reading only: its mapping may never be made writable (the
// hole that SA-13:06 closed), though the file itself may be written.
func TestR74LiveMaximumWithoutWrite(t *testing.T) {
	testneed.Root(t)
	page := os.Getpagesize()
	a, mem, name := ownShared(t, os.O_RDONLY, page, page)
	p := live(t, os.Getpid())
	n, err := p.WriteMem(t.Context(), nil, []byte{9}, a)
	wantErrno(t, err, errno.EFAULT)
	if n != -1 || !errors.Is(err, remora.ErrProtected) || mem[0] != 7 {
		t.Error(n, err, mem[0])
	}
	wantErrno(t, p.RWMem(t.Context(), &Uio{Offset: a, RW: UIOWrite}), errno.EFAULT)
	wantErrno(t, p.RWMem(t.Context(), &Uio{Offset: a}), 0)
	if b, err := os.ReadFile(name); err != nil || b[0] != 7 {
		t.Error("the file was written:", err)
	}
}

// The rest of the last page can be written, the page after it not, and the file does
// not grow.
func TestR74LiveSharedEndOfFile(t *testing.T) {
	testneed.Root(t)
	page := os.Getpagesize()
	a, mem, name := ownShared(t, os.O_RDWR, page+10, 3*page)
	p := live(t, os.Getpid())
	n, err := p.WriteMem(t.Context(), nil, bytes.Repeat([]byte{9}, page), a+remora.Addr(page)+5)
	wantErrno(t, err, errno.EFAULT)
	if n != page-5 || !errors.Is(err, remora.ErrBeyondEOF) {
		t.Error(n, err)
	}
	if want := append(bytes.Repeat([]byte{7}, 5), bytes.Repeat([]byte{9}, page-5)...); !bytes.Equal(mem[page:2*page], want) {
		t.Error("the last page holds other bytes")
	}
	b, err := os.ReadFile(name)
	if err != nil || len(b) != page+10 || b[page+5] != 9 {
		t.Error("the file:", len(b), err)
	}
	wantErrno(t, p.RWMem(t.Context(), &Uio{Offset: a + remora.Addr(2*page), RW: UIOWrite}), errno.EFAULT)
}

// Deviation: without the capability that map_files asks for, a shared mapping that is
// read-only now is refused, where FreeBSD would write it.
func TestR74LiveSharedWithoutTheCapability(t *testing.T) {
	testneed.Root(t)
	nobody := &specimen.Identity{UID: 65534, GID: 65534}
	s := specimentest.Start(t, &specimen.Options{As: nobody})
	if err := s.Dumpable(true); err != nil {
		t.Fatal(err)
	}
	at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.SharedMemory, Pages: 1})[0]
	if err := s.Protect(at, r); err != nil {
		t.Fatal(err)
	}
	out, err := specimen.Run(t.Context(), &specimen.RunOptions{As: nobody}, "write-shared", fmt.Sprint(s.Pid()), at.Start.String())
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out, "-1, write pid ") || !strings.Contains(out, "bad address: page protection: shared and read-only now; opening its file for writing: operation not permitted") {
		t.Errorf("%s", out)
	}
	if !bytes.Equal(peek(t, s, at.Start, int(at.Size)), s.Contents(specimen.SharedMemory, at)) {
		t.Error("it was written")
	}
	out, err = specimen.Run(t.Context(), nil, "write-shared", fmt.Sprint(s.Pid()), at.Start.String())
	if err != nil || out != "1, <nil>" {
		t.Errorf("with it: %s, %v", out, err)
	}
}

// The new program has a mapping of the same sort at the same address. It is not the
// process that is held any more, and stays as it is.
func TestR85LiveSharedOfTheNextProgram(t *testing.T) {
	testneed.Root(t)
	s := specimentest.Start(t, nil)
	same := func() remora.Range {
		at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.SharedMemory, Pages: 1})[0]
		if err := s.Protect(at, r); err != nil {
			t.Fatal(err)
		}
		return at
	}
	at := same()
	p := live(t, s.Pid())
	if err := s.Exec(); err != nil {
		t.Fatal(err)
	}
	if again := same(); again != at {
		t.Fatalf("mapped at %v, was at %v", again, at)
	}
	n, err := p.WriteMem(t.Context(), nil, []byte("xxxx"), at.Start)
	wantErrno(t, err, errno.EFAULT)
	if n != -1 || !errors.Is(err, remora.ErrGone) {
		t.Error(n, err)
	}
	if !bytes.Equal(peek(t, s, at.Start, int(at.Size)), s.Contents(specimen.SharedMemory, at)) {
		t.Error("the next program was written")
	}
}

// Asked directly: shared and writable, but not readable.
func TestR74LiveSharedWriteOnly(t *testing.T) {
	testneed.Root(t)
	s := specimentest.Start(t, nil)
	at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.SharedMemory, Pages: 1})[0]
	if err := s.Protect(at, w); err != nil {
		t.Fatal(err)
	}
	p := live(t, s.Pid())
	for _, a := range []remora.Addr{at.Start, at.Start - 1, 1 << 62} {
		if n, err := p.shared.WriteShared(t.Context(), []byte{1}, a); n != 0 || !errors.Is(err, remora.ErrFault) {
			t.Errorf("%v: %d, %v", a, n, err)
		}
	}
	_, err := p.WriteMem(t.Context(), nil, []byte{1}, at.Start)
	wantErrno(t, err, errno.EFAULT)
}

func TestR81LiveStopsAtTheHole(t *testing.T) {
	s := specimentest.Start(t, nil)
	at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.Touched, Pages: 2}, specimen.Piece{Kind: specimen.ReadOnly, Pages: 1},
		specimen.Piece{Kind: specimen.Hole, Pages: 1}, specimen.Piece{Kind: specimen.Touched, Pages: 1})
	p := live(t, s.Pid())
	page := os.Getpagesize()
	whole := append(s.Contents(specimen.Touched, at[0]), s.Contents(specimen.ReadOnly, at[1])...)
	buf := make([]byte, 5*page)
	n, err := p.ReadMem(t.Context(), nil, buf, at[0].Start+100)
	wantErrno(t, err, errno.EFAULT)
	if n != 3*page-100 || !bytes.Equal(buf[:n], whole[100:]) || !bytes.Equal(buf[n:], make([]byte, 5*page-n)) {
		t.Errorf("%d bytes, %v", n, err)
	}
	n, err = p.WriteMem(t.Context(), nil, buf[1:], at[0].Start+100)
	wantErrno(t, err, errno.EFAULT)
	if n != 3*page-100 {
		t.Errorf("%d bytes, %v", n, err)
	}
	copy(whole[100:], buf[1:])
	if !bytes.Equal(peek(t, s, at[0].Start, 3*page), whole) {
		t.Error("holds other bytes than were written")
	}
	var e *Error
	if !errors.As(err, &e) || e.Addr != at[2].Start || e.Caller || !errors.Is(err, remora.ErrUnmapped) {
		t.Errorf("%+v", e)
	}
	if n, err := p.ReadMem(t.Context(), nil, buf, at[2].Start+8); n != -1 || !errors.Is(err, errno.EFAULT) {
		t.Error(n, err)
	}
}

func TestR71LiveBetweenTwoProcesses(t *testing.T) {
	a, b := specimentest.Start(t, &specimen.Options{Seed: 1}), specimentest.Start(t, &specimen.Options{Seed: 2})
	page := os.Getpagesize()
	from := specimentest.Layout(t, a, specimen.Piece{Kind: specimen.Touched, Pages: 3})[0]
	to := specimentest.Layout(t, b, specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: specimen.Hole, Pages: 1},
		specimen.Piece{Kind: specimen.Touched, Pages: 1})
	user, err := proc.Open(b.Pid(), &proc.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer user.Close()
	p := live(t, a.Pid())
	u := &Uio{Iov: []Iovec{{Base: to[2].Start, Len: 100}, {Base: to[0].Start + 10, Len: uint64(2 * page)}}, Offset: from.Start + 3,
		Resid: int64(100 + page), Seg: UserSpace, Thread: &Thread{Memory: user.Memory()}}
	err = p.RWMem(t.Context(), u)
	wantErrno(t, err, errno.EFAULT)
	var e *Error
	if !errors.As(err, &e) || !e.Caller {
		t.Errorf("%+v", e)
	}
	// The element's part in the first page of the source came whole; the next did not.
	moved := page - 3
	wantProgress(t, u, from.Start+3, int64(100+page), int64(moved))
	want := a.Contents(specimen.Touched, from)[3:]
	if !bytes.Equal(peek(t, b, to[2].Start, 100), want[:100]) || !bytes.Equal(peek(t, b, to[0].Start+10, moved-100), want[100:moved]) {
		t.Error("other bytes came")
	}
}

func TestR77LiveNoBytes(t *testing.T) {
	for _, c := range liveKinds() {
		s := specimentest.Start(t, nil)
		at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: c.kind, Pages: 1})[1]
		p := live(t, s.Pid())
		for rw, want := range map[Direction]errno.Errno{UIORead: c.read, UIOWrite: c.write} {
			if err := p.RWMem(t.Context(), &Uio{Offset: at.Start + 1, RW: rw}); (err != nil) != (want != 0) || want != 0 && !errors.Is(err, want) {
				t.Errorf("%v, %v: %v, want %s", c.kind, rw, err, want.Name())
			}
		}
		if want := s.Contents(c.kind, at); c.write == 0 && !bytes.Equal(peek(t, s, at.Start, len(want)), want) {
			t.Errorf("%v was written", c.kind)
		}
	}
}

// The page is faulted: a page of zeros that was never touched is present afterwards.
func TestR77LiveFaultsThePageIn(t *testing.T) {
	s := specimentest.Start(t, nil)
	at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.Untouched, Pages: 2})[0]
	p := live(t, s.Pid())
	resident := func(a remora.Addr) error {
		segs := []remora.Seg{{Addr: a, Buf: make([]byte, 1)}}
		_, err := p.space.Transfer(t.Context(), remora.Resident, segs)
		return err
	}
	if err := resident(at.Start); !errors.Is(err, remora.ErrNotPresent) {
		t.Fatal(err)
	}
	wantErrno(t, p.RWMem(t.Context(), &Uio{Offset: at.Start + 1}), 0)
	if err := resident(at.Start); err != nil {
		t.Error(err)
	}
	if err := resident(at.Start + remora.Addr(os.Getpagesize())); !errors.Is(err, remora.ErrNotPresent) {
		t.Error("the page after it:", err)
	}
}

func TestR83LiveStackDoesNotGrow(t *testing.T) {
	s := specimentest.Start(t, nil)
	p := live(t, s.Pid())
	stack := func(pid int) remora.Region {
		for _, reg := range regions(t, pid, remora.Range{Start: 0, Size: 1 << 63}) {
			if reg.Name == "[stack]" {
				return reg
			}
		}
		t.Fatal("no stack")
		return remora.Region{}
	}
	before := stack(s.Pid())
	page := remora.Addr(os.Getpagesize())
	for _, below := range []remora.Addr{1, page, 16 * page} {
		for _, rw := range []Direction{UIORead, UIOWrite} {
			n, err := p.simple(t.Context(), rw, nil, make([]byte, 1), before.Start-below)
			wantErrno(t, err, errno.EFAULT)
			if n != -1 {
				t.Error(n)
			}
		}
	}
	if after := stack(s.Pid()); after.Start != before.Start {
		t.Errorf("the stack grew from %v to %v", before.Start, after.Start)
	}
	self, mine := live(t, os.Getpid()), stack(os.Getpid()) // deviation: not even our own
	if n, err := self.ReadMem(t.Context(), &Thread{Proc: self}, make([]byte, 1), mine.Start-page); n != -1 {
		t.Error(n, err)
	}
	if after := stack(os.Getpid()); after.Start > mine.Start {
		t.Errorf("our stack shrank from %v to %v", mine.Start, after.Start)
	}
}

func TestR75LiveOpenedForReading(t *testing.T) {
	s := specimentest.Start(t, nil)
	at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.Touched, Pages: 1})[0]
	p, err := Open(s.Pid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	hold(t, p)
	n, err := p.WriteMem(t.Context(), nil, []byte{1}, at.Start)
	wantErrno(t, err, errno.EPERM)
	if n != -1 || !errors.Is(err, fs.ErrPermission) {
		t.Error(n, err)
	}
	if n, err := p.ReadMem(t.Context(), nil, make([]byte, 1), at.Start); n != 1 || err != nil {
		t.Error(n, err)
	}
}

// Deviation: a hold does not keep a Linux process from exiting. It keeps the handle
// from ever meaning another process; every page is a fault then.
func TestR85LiveExitWhileHeld(t *testing.T) {
	for name, end := range map[string]func(*specimen.Specimen) error{
		"exit": (*specimen.Specimen).Exit, "kill": (*specimen.Specimen).Kill, "execve": (*specimen.Specimen).Exec,
	} {
		t.Run(name, func(t *testing.T) {
			s := specimentest.Start(t, nil)
			at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: specimen.ReadOnly, Pages: 1})
			p := live(t, s.Pid())
			if n, err := p.ReadMem(t.Context(), nil, make([]byte, 8), at[0].Start); n != 8 {
				t.Fatal(n, err)
			}
			if err := end(s); err != nil {
				t.Fatal(err)
			}
			for i := range at {
				for _, rw := range []Direction{UIORead, UIOWrite} {
					n, err := p.simple(t.Context(), rw, nil, make([]byte, 8), at[i].Start)
					wantErrno(t, err, errno.EFAULT)
					if n != -1 {
						t.Error(n)
					}
					if rw == UIORead && !errors.Is(err, remora.ErrGone) {
						t.Error(err)
					}
				}
			}
		})
	}
}

func TestR85LiveOpen(t *testing.T) {
	s := specimentest.Start(t, nil)
	if err := s.Exit(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(s.Pid(), nil); !errors.Is(err, remora.ErrGone) {
		t.Error("a zombie:", err)
	}
	if _, err := Open(-1, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error("-1:", err)
	}
}

func TestR84LiveBreakpoint(t *testing.T) {
	s := specimentest.Start(t, nil)
	at := specimentest.Layout(t, s, specimen.Piece{Kind: specimen.Text, Pages: 1})[0]
	p, err := Open(s.Pid(), &Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	old, err := p.PTRead(t.Context(), nil, at.Start+2)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []int32{0x11223344, old} {
		if err := p.PTWrite(t.Context(), nil, v, at.Start+2); err != nil {
			t.Fatal(err)
		}
		if got, err := p.PTRead(t.Context(), nil, at.Start+2); got != v || err != nil {
			t.Errorf("%x, %v; want %x", got, err, v)
		}
	}
	if !bytes.Equal(peek(t, s, at.Start, int(at.Size)), s.Contents(specimen.Text, at)) {
		t.Error("not as it was")
	}
	_, err = p.PTRead(t.Context(), nil, at.Last()-1)
	wantErrno(t, err, errno.ENOMEM)
}
