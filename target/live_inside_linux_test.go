// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/memtest"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// testInside is what runs in a guest.
func testInside(t *testing.T) {
	t.Run("kinds of memory", testLiveKinds)
	t.Run("gone", testLiveGone)
	t.Run("churn", testLiveChurn)
	t.Run("written through proc", testLiveWrite)
	t.Run("modules", testLiveModules)
	t.Run("moving", testLiveMoving)
	t.Run("log", testLiveLog)
	t.Run("contract", testLiveContract)
	t.Run("masked", testLiveMasked)
}

// openInside opens a target in the guest.
func openInside(t *testing.T, spec string, o *target.Options) remora.Target {
	t.Helper()
	x, err := target.Open(t.Context(), spec, o)
	if err != nil {
		t.Fatalf("%s: %v", spec, err)
	}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

func startSpecimen(t *testing.T) *specimen.Specimen {
	t.Helper()
	s, err := specimen.Start(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// testLiveKinds holds each kind of memory, read through the kernel's page tables, against
// what the process itself has there, and against what reading it as a live process gives.
func testLiveKinds(t *testing.T) {
	s := startSpecimen(t)
	type piece struct {
		kind specimen.Kind
		r    remora.Range
	}
	var all []piece
	for kind := specimen.Touched; kind <= specimen.FileEnd; kind++ {
		if kind == specimen.Missing {
			continue
		}
		r, err := s.Map(kind, 4)
		if err != nil {
			t.Logf("%v: %v", kind, err)
			continue
		}
		all = append(all, piece{kind, r})
	}
	k := openInside(t, fmt.Sprintf("kernel@%d", s.Pid()), nil)
	p := openInside(t, fmt.Sprintf("pid:%d", s.Pid()), nil)
	for _, x := range all { // the kernel's tables first: to read as a process does brings pages in
		got, gotErr := readRange(t.Context(), k.Memory(), x.r)
		want, wantErr := readRange(t.Context(), p.Memory(), x.r)
		t.Logf("%-14v kernel@PID %5d bytes, %v; pid:PID %5d bytes, %v", x.kind, len(got), gotErr, len(want), wantErr)
		switch x.kind {
		case specimen.NoAccess, specimen.Reserved, specimen.WriteOnly, specimen.ExecOnly: // no protection in the tables stops a read there
			if contents := s.Contents(x.kind, x.r); contents != nil && !bytes.Equal(got, contents) {
				t.Errorf("%v: not what was written there", x.kind)
			}
		case specimen.PagedOut, specimen.UnreadFile: // what is not in memory is brought in for a process, and only for it
			if !bytes.HasPrefix(want, got) || len(got) < len(want) && !errors.Is(gotErr, remora.ErrNotPresent) {
				t.Errorf("%v: %d bytes of kernel@PID are others, or end for another reason", x.kind, len(got))
			}
		default:
			if !bytes.Equal(got, want) || (gotErr == nil) != (wantErr == nil) {
				t.Errorf("%v: kernel@PID gives %d bytes (%v), pid:PID %d (%v)", x.kind, len(got), gotErr, len(want), wantErr)
			}
		}
	}
}

func readRange(ctx context.Context, m *remora.Memory, r remora.Range) ([]byte, error) {
	b := make([]byte, r.Size)
	n, err := m.ReadAt(ctx, b, r.Start)
	return b[:n], err
}

// testLiveGone has a process end, and begin another program, while it is open.
func testLiveGone(t *testing.T) {
	for name, end := range map[string]func(*specimen.Specimen) error{"exit": (*specimen.Specimen).Kill, "execve": (*specimen.Specimen).Exec} {
		s := startSpecimen(t)
		r, err := s.Map(specimen.Touched, 1)
		if err != nil {
			t.Fatal(err)
		}
		k := openInside(t, fmt.Sprintf("kernel@%d", s.Pid()), nil)
		if b, err := readRange(t.Context(), k.Memory(), r); err != nil || !bytes.Equal(b, s.Contents(specimen.Touched, r)) {
			t.Errorf("%s: before it: %d bytes, %v", name, len(b), err)
		}
		if err := end(s); err != nil {
			t.Fatal(err)
		}
		if b, err := readRange(t.Context(), k.Memory(), r); !errors.Is(err, remora.ErrGone) || len(b) != 0 {
			t.Errorf("%s: after it: %d bytes, %v", name, len(b), err)
		}
		m, _ := remora.As[remora.Mapper](k)
		for _, err := range m.Regions(t.Context()) {
			if !errors.Is(err, remora.ErrGone) {
				t.Errorf("%s: its mappings: %v", name, err)
			}
		}
	}
}

// testLiveChurn lists processes while others come and go.
func testLiveChurn(t *testing.T) {
	k := openInside(t, "kernel", nil).(*target.Kernel)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if p, err := os.StartProcess("/bin/remora", []string{"remora", "--bad"}, &os.ProcAttr{}); err == nil {
				p.Wait()
			}
		}
	}()
	for range 40 {
		pids := map[int]bool{}
		for task, err := range k.Tasks(t.Context()) {
			if err != nil {
				t.Errorf("tasks: %v", err)
				continue
			}
			pids[task.PID] = true
			for _, err := range k.Threads(t.Context(), task) {
				if err != nil {
					t.Errorf("threads: %v", err)
				}
			}
		}
		if !pids[1] || !pids[2] || !pids[os.Getpid()] {
			t.Errorf("of %d processes 1, 2 or this one are missing", len(pids))
		}
	}
	close(stop)
	<-done
}

// testLiveWrite writes a process, and is refused the kernel.
func testLiveWrite(t *testing.T) {
	s := startSpecimen(t)
	r, err := s.Map(specimen.Touched, 1)
	if err != nil {
		t.Fatal(err)
	}
	k := openInside(t, fmt.Sprintf("kernel@%d", s.Pid()), &target.Options{Write: true})
	if _, err := k.Memory().WriteAt(t.Context(), []byte("remora"), r.Start+100); err != nil {
		t.Error(err)
	}
	b := make([]byte, 6)
	if err := s.Peek(b, r.Start+100); err != nil || string(b) != "remora" {
		t.Errorf("the process sees %q, %v", b, err)
	}
	_, err = target.Open(t.Context(), "kernel", &target.Options{Write: true})
	refused, ok := errors.AsType[*remora.AccessError](err)
	if !ok || !errors.Is(err, fs.ErrPermission) || !strings.Contains(refused.Reason, "CONFIG_STRICT_DEVMEM") {
		t.Errorf("writing the kernel: %v", err)
	}
}

// testLiveModules has a module go while the kernel is open.
func testLiveModules(t *testing.T) {
	k := openInside(t, "kernel", nil).(*target.Kernel)
	var name string
	for m, err := range k.Modules(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Refs == 0 && m.Name == "qemu_fw_cfg" {
			name = m.Name
		}
	}
	if name == "" {
		t.Fatal("no module that can go")
	}
	const symbol = "fw_cfg_sysfs_probe"
	if found, err := k.Symbol(t.Context(), symbol); err != nil || len(found) != 1 || found[0].Module != name {
		t.Errorf("%s: %v, %v", symbol, found, err)
	}
	if err := unix.DeleteModule(name, unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	if found, err := k.Symbol(t.Context(), symbol); err != nil || len(found) != 0 {
		t.Errorf("%s of a module that has gone: %v, %v", symbol, found, err)
	}
}

// testLiveMoving reads pages that the kernel moves about: every reading is right.
func testLiveMoving(t *testing.T) {
	s := startSpecimen(t)
	r, err := s.Map(specimen.Touched, 256)
	if err != nil {
		t.Fatal(err)
	}
	want := s.Contents(specimen.Touched, r)
	k := openInside(t, fmt.Sprintf("kernel@%d", s.Pid()), nil)
	for i := range 100 {
		if err := os.WriteFile("/proc/sys/vm/compact_memory", []byte("1"), 0); err != nil {
			t.Logf("no compaction: %v", err)
		}
		if b, err := readRange(t.Context(), k.Memory(), r); err != nil || !bytes.Equal(b, want) {
			t.Fatalf("reading %d: %d bytes, %v", i, len(b), err)
		}
	}
}

// testLiveLog holds the log in memory against what the kernel gives of it.
func testLiveLog(t *testing.T) {
	f, err := os.OpenFile("/dev/kmsg", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var want []string
	for b := make([]byte, 16<<10); ; {
		n, err := unix.Read(int(f.Fd()), b)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		head, text, _ := strings.Cut(string(b[:n]), ";")
		text, _, _ = strings.Cut(text, "\n")
		want = append(want, strings.Split(head, ",")[1]+" "+unescaped(text))
	}
	k := openInside(t, "kernel", nil).(*target.Kernel)
	var got []string
	for r, err := range k.Log(t.Context()) {
		if err != nil {
			t.Error(err)
			continue
		}
		got = append(got, fmt.Sprintf("%d %s", r.Seq, r.Text))
	}
	if len(got) < len(want) || len(want) < 100 {
		t.Fatalf("%d records, and the kernel gives %d", len(got), len(want))
	}
	if diff := cmp.Diff(want, got[:len(want)]); diff != "" {
		t.Error(diff)
	}
}

// unescaped undoes what /dev/kmsg does to bytes that are not printed: \xNN.
func unescaped(text string) string {
	var b strings.Builder
	for {
		before, rest, ok := strings.Cut(text, `\x`)
		b.WriteString(before)
		if !ok || len(rest) < 2 {
			return b.String()
		}
		n, err := strconv.ParseUint(rest[:2], 16, 8)
		if err != nil {
			return b.String()
		}
		b.WriteByte(byte(n))
		text = rest[2:]
	}
}

// testLiveContract holds the memory of this machine against the contract: a page that is
// locked, and has a place of its own.
func testLiveContract(t *testing.T) {
	s := startSpecimen(t)
	r, err := s.Map(specimen.Locked, 4)
	if err != nil {
		t.Fatal(err)
	}
	k := openInside(t, fmt.Sprintf("kernel@%d", s.Pid()), nil).(*target.Process)
	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
		img, err := vmcore.OpenKcore(nil)
		if err != nil {
			t.Fatal(err)
		}
		f := memtest.Fixture{Space: img, Close: img.Close}
		for a := r.Start; a < r.Start+remora.Addr(r.Size); a += 4096 {
			e := k.Translate(t.Context(), a)
			if e.Err != nil {
				t.Fatal(e.Err)
			}
			f.Areas = append(f.Areas, memtest.Area{Range: remora.Range{Start: e.Phys + (a - e.Virt), Size: 4096},
				Data: s.Contents(specimen.Locked, r)[a-r.Start:][:4096], Fault: memtest.OnWrite(remora.ErrReadOnly)})
		}
		var end remora.Addr
		for run, err := range img.Runs(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			end = run.Last() + 1
		}
		f.Areas = append(f.Areas, memtest.Area{Range: remora.Range{Start: end, Size: 4096}, Fault: memtest.Always(remora.ErrHole)})
		f.Peek = func(b []byte, a remora.Addr) error {
			for i := range f.Areas {
				if x := &f.Areas[i]; x.Contains(a) {
					copy(b, x.Data[a-x.Start:])
				}
			}
			return nil
		}
		return f
	}, memtest.Want{
		Part: 1,
		Info: remora.Info{Ops: remora.StopAtFault | remora.Force | remora.Resident, PtrSize: 8, Granule: 4096, Last: remora.MaxAddr, Live: true},
		Lacks: memtest.Lacks{Hole: "pages are where they are", Large: "pages are where they are", Forced: "physical memory has no protection",
			Absent: "physical memory has no paging", Top: "no machine has memory there"},
	})
}

// testLiveMasked puts in the place of /proc/kcore what containers have there.
func testLiveMasked(t *testing.T) {
	const kcore = "/proc/kcore"
	empty, text := t.TempDir()+"/empty", t.TempDir()+"/text"
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), os.WriteFile(text, []byte("no kernel at all"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for what, want := range map[string]string{"/dev/null": "as /dev/null is", empty: "it is empty", text: "want an ELF file"} {
		if err := unix.Mount(what, kcore, "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		_, err := target.Open(t.Context(), "kernel", nil)
		if err := unix.Unmount(kcore, 0); err != nil {
			t.Fatal(err)
		}
		refused, ok := errors.AsType[*remora.AccessError](err)
		if !ok || !errors.Is(err, fs.ErrPermission) || !strings.Contains(refused.Reason, want) || !strings.Contains(refused.Reason, "container") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
