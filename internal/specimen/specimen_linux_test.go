// SPDX-License-Identifier: Apache-2.0

package specimen

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/testneed"
)

func TestMain(m *testing.M) {
	Main(
		Job{"who", func(out io.Writer, args []string) error {
			_, errno := linux.VMOne(false, os.Getpid(), make([]byte, 1), 0)
			fmt.Fprintln(out, os.Getuid(), os.Getgid(), uint(errno), strings.Join(args, ","))
			return nil
		}},
		Job{"fail", func(io.Writer, []string) error { return errors.New("failed as asked") }},
		Job{"orphan", func(out io.Writer, _ []string) error {
			s, err := Start(context.Background(), nil)
			if err != nil {
				return err
			}
			fmt.Fprintln(out, s.Pid())
			return unix.Kill(os.Getpid(), unix.SIGKILL)
		}},
	)
	goleak.VerifyTestMain(m)
}

func start(t *testing.T, o *Options) *Specimen {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// maps gives the permissions that /proc/PID/maps shows at a, "" where nothing is.
func maps(t *testing.T, pid int, a remora.Addr) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var first, end remora.Addr
		var perm string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &first, &end, &perm); err != nil {
			t.Fatal(err)
		}
		if first <= a && a < end {
			return perm
		}
	}
	return ""
}

// present says which pages of r the page table has.
func present(t *testing.T, pid int, r remora.Range) (present []bool) {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page := uint64(os.Getpagesize())
	entries := make([]byte, r.Size/page*8)
	if _, err := f.ReadAt(entries, int64(uint64(r.Start)/page*8)); err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(entries); i += 8 {
		present = append(present, binary.NativeEndian.Uint64(entries[i:])>>63 == 1)
	}
	return present
}

// Every kind is held against what the kernel says of it, and against what is read
// behind the specimen's back.
func TestKindsAreWhatTheySay(t *testing.T) {
	s := start(t, &Options{Seed: 7})
	mem, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", s.Pid()), os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	const pages = 3
	for _, row := range []struct {
		kind   Kind
		perm   string
		absent bool
		peeks  bool // the specimen may load all of it
	}{
		{Touched, "rw-p", false, true},
		{Untouched, "rw-p", true, true},
		{ZeroPage, "rw-p", false, true},
		{NoAccess, "---p", false, false},
		{Reserved, "---p", true, false},
		{ReadOnly, "r--p", false, true},
		{WriteOnly, "-w-p", false, true},
		{ExecOnly, "--xp", false, true},
		{Locked, "rw-p", false, true},
		{Huge, "rw-p", false, true},
		{GrowsDown, "rw-p", false, true},
		{Guard, "rw-p", true, false},
		{Secret, "rw-s", false, true},
		{Text, "r-xp", false, true},
		{PrivateFile, "rw-p", false, true},
		{UnreadFile, "rw-p", true, true},
		{SharedFile, "rw-s", false, true},
		{SharedReadOnly, "r--s", false, true},
		{SharedMemory, "rw-s", false, true},
		{FileEnd, "rw-p", false, false},
	} {
		t.Run(row.kind.String(), func(t *testing.T) {
			r, err := s.Map(row.kind, pages)
			if errors.Is(err, errors.ErrUnsupported) {
				testneed.Lacks(t, err.Error())
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := maps(t, s.Pid(), r.Start); got != row.perm {
				t.Errorf("the map says %q, want %q", got, row.perm)
			}
			before, after := maps(t, s.Pid(), r.Start-1), maps(t, s.Pid(), r.Last()+1)
			if before != "" || after != "" || r.Size != pages*uint64(os.Getpagesize()) {
				t.Errorf("%v; mapped before: %q, after: %q", r, before, after)
			}
			if row.kind != Secret { // its pages are in the table, and not shown
				if got := present(t, s.Pid(), r); got[0] == row.absent {
					t.Errorf("present: %v", got)
				}
			}
			want := s.Contents(row.kind, r)
			got := make([]byte, len(want))
			if _, err := mem.ReadAt(got, int64(r.Start)); row.kind != Secret && (err != nil || !bytes.Equal(got, want)) {
				t.Errorf("it does not hold its contents (%v)", err)
			}
			got = make([]byte, r.Size)
			if row.kind == ExecOnly && errors.Is(s.Peek(got, r.Start), linux.EFAULT) {
				return // the processor has protection keys
			}
			switch err := s.Peek(got, r.Start); {
			case !row.peeks && !errors.Is(err, linux.EFAULT):
				t.Errorf("Peek: %v", err)
			case row.peeks && (err != nil || !bytes.Equal(got, want)):
				t.Errorf("Peek does not give the contents (%v)", err)
			}
			if h, err := s.Sum(r); row.peeks && (err != nil || h != sum(want)) {
				t.Errorf("Sum: %x, %v, want %x", h, err, sum(want))
			}
		})
	}
}

func TestPagedOut(t *testing.T) {
	s := start(t, nil)
	r, err := s.Map(PagedOut, 2)
	if errors.Is(err, errors.ErrUnsupported) {
		if text, _ := os.ReadFile("/proc/swaps"); bytes.Count(text, []byte("\n")) > 1 {
			t.Logf("there is swap space, and yet: %v", err)
		}
		return // no swap space: that it says so is what there is to test
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got := present(t, s.Pid(), r); got[0] || got[1] {
			t.Errorf("present: %v", got)
		}
		if h, err := s.Sum(r); err != nil || h != sum(s.Contents(PagedOut, r)) {
			t.Errorf("Sum: %x, %v", h, err)
		}
		if err := s.PageOut(r); err != nil {
			t.Fatal(err)
		}
	}
}

func TestHugeTLB(t *testing.T) {
	s := start(t, nil)
	if _, err := s.Map(HugeTLB, HugePage/os.Getpagesize()+1); err == nil {
		t.Error("part of a huge page was mapped")
	}
	all, err := s.Layout(Piece{HugeTLB, 2 * HugePage / os.Getpagesize()}, Piece{Touched, 1})
	if errors.Is(err, errors.ErrUnsupported) {
		return // an empty pool: that it says so is what there is to test
	}
	if err != nil {
		t.Fatal(err)
	}
	r := all[0]
	if got := maps(t, s.Pid(), r.Start); got != "rw-p" {
		t.Errorf("the map says %q", got)
	}
	if h, err := s.Sum(r); err != nil || h != sum(s.Contents(HugeTLB, r)) {
		t.Errorf("Sum: %x, %v", h, err)
	}
}

func TestLayoutIsSideBySideAndRepeats(t *testing.T) {
	s := start(t, nil)
	pieces := []Piece{{Touched, 2}, {Hole, 3}, {SharedFile, 1}, {NoAccess, 1}, {FileEnd, 2}}
	first, err := s.Layout(pieces...)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"rw-p", "", "rw-s", "---p", "rw-p"} {
		if got := maps(t, s.Pid(), first[i].Start); got != want {
			t.Errorf("piece %d is %q, want %q", i, got, want)
		}
		if i > 0 && first[i].Start != first[i-1].Last()+1 {
			t.Errorf("piece %d is at %v, the one before it ends at %v", i, first[i].Start, first[i-1].Last())
		}
	}
	if _, err := s.MapAt(first[0].Start, Touched, 1); !errors.Is(err, linux.EEXIST) {
		t.Errorf("mapped over something: %v", err)
	}
	if r, err := s.MapAt(first[1].Start, ReadOnly, 1); err != nil || r.Start != first[1].Start {
		t.Errorf("%v, %v", r, err)
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	if got := maps(t, s.Pid(), first[0].Start); got != "" {
		t.Errorf("after Reset: %q", got)
	}
	again, err := s.Layout(pieces...)
	if err != nil || again[0] != first[0] {
		t.Errorf("after Reset at %v, %v, before at %v", again, err, first)
	}
}

func TestChangesOfMemory(t *testing.T) {
	s := start(t, nil)
	r, err := s.Map(Touched, 4)
	if err != nil {
		t.Fatal(err)
	}
	page := r.Size / 4
	second := remora.Range{Start: r.Start + remora.Addr(page), Size: page}
	if err := s.Poke([]byte("poked"), r.Start+5); err != nil {
		t.Fatal(err)
	}
	want := s.Contents(Touched, r)
	copy(want[5:], "poked")
	got := make([]byte, r.Size)
	if err := s.Peek(got, r.Start); err != nil || !bytes.Equal(got, want) {
		t.Errorf("Peek after Poke (%v)", err)
	}
	if err := s.Protect(second, remora.PermRead); err != nil {
		t.Fatal(err)
	}
	if got := maps(t, s.Pid(), second.Start); got != "r--p" {
		t.Errorf("after Protect: %q", got)
	}
	if err := s.Poke([]byte{1}, second.Start); !errors.Is(err, linux.EFAULT) {
		t.Errorf("Poke to a page that is read-only: %v", err)
	}
	if err := s.Drop(second); err != nil || present(t, s.Pid(), second)[0] {
		t.Errorf("after Drop the page is there (%v)", err)
	}
	if err := s.Unmap(second); err != nil || maps(t, s.Pid(), second.Start) != "" {
		t.Errorf("after Unmap it is mapped (%v)", err)
	}
}

func TestAliases(t *testing.T) {
	s := start(t, nil)
	all, err := s.Layout(Piece{SharedMemory, 1}, Piece{Alias, 2}, Piece{PrivateAlias, 1})
	if err != nil {
		t.Fatal(err)
	}
	object, alias, private := all[0], all[1], all[2]
	want := s.Contents(SharedMemory, object)
	for _, row := range []struct {
		text    string
		at      remora.Addr
		private bool // whether the private alias still shows what is stored
	}{{"by the object", object.Start, true}, {"by the alias", alias.Start + 20, true}, {"copied", private.Start + 40, true}, {"unseen", object.Start + 60, false}} {
		if err := s.Poke([]byte(row.text), row.at); err != nil {
			t.Fatal(err)
		}
		seen := bytes.Clone(want)
		copy(seen[uint64(row.at)%object.Size:], row.text)
		if row.at < private.Start {
			want = seen
		}
		for _, r := range []remora.Range{object, {Start: alias.Start, Size: object.Size}} {
			got := make([]byte, r.Size)
			if err := s.Peek(got, r.Start); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %v is not the object (%v)", row.text, r, err)
			}
		}
		got := make([]byte, private.Size)
		if err := s.Peek(got, private.Start); err != nil || bytes.Equal(got, seen) != row.private {
			t.Errorf("%s: the private alias (%v)", row.text, err)
		}
	}
	if err := s.Peek(make([]byte, 1), alias.Start+remora.Addr(object.Size)); !errors.Is(err, linux.EFAULT) {
		t.Errorf("beyond the end of the object: %v", err)
	}
	if _, err := s.Map(Alias, 1); !errors.Is(err, linux.EINVAL) {
		t.Errorf("an alias of nothing: %v", err)
	}
}

func TestMissingWaits(t *testing.T) {
	s := start(t, nil)
	r, err := s.Map(Missing, 2)
	if errors.Is(err, errors.ErrUnsupported) {
		testneed.Lacks(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	page := remora.Addr(r.Size / 2)
	if _, _, ok, err := s.Waiter(); ok || err != nil {
		t.Errorf("somebody waits: %v", err)
	}
	got := make([]byte, 8)
	done := make(chan linux.Errno)
	read := func(a remora.Addr) {
		_, errno := linux.VMOne(false, s.Pid(), got, uint64(a))
		done <- errno
	}
	waiter := func() remora.Addr {
		for {
			a, write, ok, err := s.Waiter()
			if err != nil || write {
				t.Fatal(err, write)
			}
			if ok {
				return a
			}
			time.Sleep(time.Millisecond)
		}
	}
	go read(r.Start + 16)
	if a := waiter(); a&^(page-1) != r.Start {
		t.Errorf("the access is at %v", a)
	}
	data := make([]byte, page)
	Pattern(data, r.Start, 3)
	if err := s.Resolve(data, r.Start); err != nil {
		t.Fatal(err)
	}
	if errno := <-done; errno != 0 || !bytes.Equal(got, data[16:24]) {
		t.Errorf("read %x, %v, want %x", got, errno, data[16:24])
	}
	go read(r.Start + page)
	waiter()
	if err := s.Release(r); err != nil {
		t.Fatal(err)
	}
	if errno := <-done; errno != 0 || !bytes.Equal(got, make([]byte, 8)) {
		t.Errorf("after Release: read %x, %v", got, errno)
	}
}

func TestLifetime(t *testing.T) {
	state := func(pid int) byte {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0
		}
		return statState(text)
	}
	t.Run("exec", func(t *testing.T) {
		s := start(t, &Options{Seed: 5})
		r, err := s.Map(Touched, 1)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Exec(); err != nil {
			t.Fatal(err)
		}
		if got := maps(t, s.Pid(), r.Start); got != "" {
			t.Errorf("after Exec: %q", got)
		}
		again, err := s.Map(Touched, 1)
		if err != nil || again != r {
			t.Fatal(again, err)
		}
		got := make([]byte, r.Size)
		if err := s.Peek(got, r.Start); err != nil || !bytes.Equal(got, s.Contents(Touched, r)) {
			t.Errorf("it does not hold its contents (%v)", err)
		}
	})
	t.Run("threads", func(t *testing.T) {
		s := start(t, nil)
		tid, err := s.Thread()
		if err != nil || tid == s.Pid() {
			t.Fatal(tid, err)
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d/task/%d", s.Pid(), tid)); err != nil {
			t.Error(err)
		}
		if err := s.EndLeader(); err != nil || state(s.Pid()) != 'Z' {
			t.Fatalf("state %c, %v", state(s.Pid()), err)
		}
		if _, err := s.Map(Touched, 1); err != nil {
			t.Error(err)
		}
	})
	for name, end := range map[string]func(*Specimen) error{"exit": (*Specimen).Exit, "kill": (*Specimen).Kill} {
		t.Run(name, func(t *testing.T) {
			s := start(t, nil)
			if err := end(s); err != nil || state(s.Pid()) != 'Z' {
				t.Fatalf("state %c, %v", state(s.Pid()), err)
			}
			if _, err := s.Map(Touched, 1); err == nil {
				t.Error("it answers")
			}
			if err := s.Close(); err != nil || state(s.Pid()) != 0 {
				t.Errorf("after Close: state %c, %v", state(s.Pid()), err)
			}
		})
	}
	t.Run("end of the parent", func(t *testing.T) {
		out, err := Run(t.Context(), nil, "orphan")
		if err == nil || !strings.Contains(err.Error(), "killed") {
			t.Fatal(out, err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(out))
		if err != nil {
			t.Fatal(err)
		}
		for s := state(pid); s != 0 && s != 'Z'; s = state(pid) {
			time.Sleep(time.Millisecond)
		}
	})
}

func TestIdentities(t *testing.T) {
	testneed.Root(t)
	status := func(pid int, key string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(text), "\n"+key+":")
		line, _, _ := strings.Cut(rest, "\n")
		return strings.Join(strings.Fields(line), " ")
	}
	owner := func(pid int) string {
		var st unix.Stat_t
		if err := unix.Stat(fmt.Sprintf("/proc/%d/mem", pid), &st); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(st.Uid)
	}
	const netRaw = 13
	s := start(t, &Options{As: &Identity{UID: 1234, GID: 2345, Capabilities: []uintptr{netRaw}}})
	for key, want := range map[string]string{"Uid": "1234 1234 1234 1234", "Gid": "2345 2345 2345 2345",
		"Groups": "", "CapEff": fmt.Sprintf("%016x", 1<<netRaw), "CapPrm": fmt.Sprintf("%016x", 1<<netRaw)} {
		if got := status(s.Pid(), key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	// The files of a process that is not dumpable belong to root.
	for _, row := range []struct {
		on   bool
		want string
	}{{false, "0"}, {true, "1234"}} {
		if err := s.Dumpable(row.on); err != nil || owner(s.Pid()) != row.want {
			t.Errorf("dumpable %v: it is %s's, %v", row.on, owner(s.Pid()), err)
		}
	}
	other := start(t, nil)
	if err := other.Become(1234, 2345); err != nil {
		t.Fatal(err)
	}
	if got := status(other.Pid(), "Uid") + owner(other.Pid()) + status(other.Pid(), "CapPrm"); got != "1234 1234 1234 123400000000000000000" {
		t.Errorf("after Become: %s", got)
	}
	if err := other.Exec(); err != nil || owner(other.Pid()) != "1234" {
		t.Errorf("after Exec it is %s's, %v", owner(other.Pid()), err)
	}
}

func TestRun(t *testing.T) {
	self := fmt.Sprint(os.Getuid(), " ", os.Getgid())
	for _, row := range []struct {
		o    *RunOptions
		root bool
		want string
	}{
		{nil, false, self + " 14 a,b c"}, // EFAULT: the call itself is permitted
		{&RunOptions{RefuseVM: int(linux.EPERM)}, false, self + " 1 a,b c"},
		{&RunOptions{RefuseVM: int(linux.ENOSYS)}, false, self + " 38 a,b c"},
		{&RunOptions{As: &Identity{UID: 12, GID: 13}, RefuseVM: int(linux.EPERM)}, true, "12 13 1 a,b c"},
	} {
		if row.root {
			testneed.Root(t)
		}
		if got, err := Run(t.Context(), row.o, "who", "a", "b c"); err != nil || strings.TrimSpace(got) != row.want {
			t.Errorf("%+v: %q, %v, want %q", row.o, got, err, row.want)
		}
	}
	if _, err := Run(t.Context(), nil, "fail"); err == nil || !strings.Contains(err.Error(), "failed as asked") {
		t.Error(err)
	}
	if _, err := Run(t.Context(), nil, "absent"); err == nil || !strings.Contains(err.Error(), "no job") {
		t.Error(err)
	}
}

func TestPatternIsAFunctionOfTheAddress(t *testing.T) {
	whole := make([]byte, 100)
	Pattern(whole, 0x1003, 9)
	for i := range whole {
		for n := 1; n < 20 && i+n <= len(whole); n++ {
			part := make([]byte, n)
			Pattern(part, 0x1003+remora.Addr(i), 9)
			if !bytes.Equal(part, whole[i:i+n]) {
				t.Fatalf("%d bytes from %d on differ", n, i)
			}
		}
	}
	other := make([]byte, 100)
	Pattern(other, 0x1003, 10)
	if bytes.Equal(other, whole) {
		t.Error("another seed makes no difference")
	}
}
