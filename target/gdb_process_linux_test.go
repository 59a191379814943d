// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/target"
)

// startGdbserver attaches gdbserver to a process until the test ends, and gives its address.
func startGdbserver(t *testing.T, pid int) string {
	t.Helper()
	path, err := exec.LookPath("gdbserver")
	if err != nil {
		testneed.Lacks(t, "needs the program gdbserver")
	}
	cmd := exec.CommandContext(t.Context(), path, "--attach", "127.0.0.1:0", fmt.Sprint(pid))
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	said := ""
	for lines.Scan() {
		said += lines.Text() + "\n"
		if port, ok := strings.CutPrefix(lines.Text(), "Listening on port "); ok {
			done := make(chan struct{})
			go func() {
				defer close(done)
				for lines.Scan() { // it must not wait for a reader
				}
			}()
			t.Cleanup(func() {
				cmd.Process.Kill()
				<-done
				cmd.Wait()
			})
			return "127.0.0.1:" + port
		}
	}
	cmd.Wait()
	testneed.Lacks(t, "gdbserver does not attach: "+said)
	return ""
}

// What gdbserver gives of a process is what reading the process gives: its regions, every
// byte of every kind of memory, where a read stops and why.
func TestGdbserverProcess(t *testing.T) {
	s := specimentest.Start(t, nil)
	var all []remora.Range
	for kind := specimen.Touched; kind <= specimen.FileEnd; kind++ {
		if kind == specimen.Missing || kind == specimen.Secret || kind == specimen.HugeTLB {
			continue
		}
		r, err := s.Map(kind, 4)
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, remora.Range{Start: r.Start - 4096, Size: r.Size + 8192})
	}
	direct, err := target.Open(t.Context(), fmt.Sprintf("pid:%d", s.Pid()), &target.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	spec := "gdb:" + startGdbserver(t, s.Pid())
	for range 2 { // a second client finds it as the first one did
		stub, err := target.Open(t.Context(), spec, &target.Options{Write: true})
		if err != nil {
			t.Fatal(err)
		}
		sameRegions(t, direct, stub)
		for _, r := range all {
			for _, force := range []remora.Op{0, remora.Force} {
				sameBytes(t, direct, stub, r, force)
			}
		}
		sameWrites(t, direct, stub, all[0].Start+4096)
		if err := stub.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := target.Open(t.Context(), spec+"@phys", nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("physical memory of a process: %v", err)
	}
}

func sameRegions(t *testing.T, a, b remora.Target) {
	t.Helper()
	list := func(x remora.Target) (all []remora.Region) {
		m, ok := remora.As[remora.Mapper](x)
		if !ok {
			t.Fatal("it has no regions")
		}
		for r, err := range m.Regions(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		return all
	}
	if diff := cmp.Diff(list(a), list(b)); diff != "" {
		t.Error(diff)
	}
}

// sameBytes reads a range page by page, and from the middle of each over the next one.
func sameBytes(t *testing.T, a, b remora.Target, r remora.Range, op remora.Op) {
	t.Helper()
	var one, other [6000]byte
	for at := r.Start; at < r.Start+remora.Addr(r.Size); at += 2048 {
		n, err := a.Memory().With(op).ReadAt(t.Context(), one[:], at)
		m, bad := b.Memory().With(op).ReadAt(t.Context(), other[:], at)
		if n != m || !bytes.Equal(one[:n], other[:m]) || (err == nil) != (bad == nil) {
			t.Errorf("at %v (%v): the process gives %d bytes (%v), gdbserver %d (%v)", at, op, n, err, m, bad)
			return
		}
		for _, cause := range []remora.Cause{remora.ErrUnmapped, remora.ErrProtected} {
			if errors.Is(err, cause) != errors.Is(bad, cause) {
				t.Errorf("at %v (%v): the process says %v, gdbserver %v", at, op, err, bad)
				return
			}
		}
	}
}

// sameWrites writes through each, and reads through the other.
func sameWrites(t *testing.T, a, b remora.Target, at remora.Addr) {
	t.Helper()
	for i, pair := range [][2]remora.Target{{a, b}, {b, a}} {
		data := bytes.Repeat([]byte{byte(i + 1), '#', '$', '}', '*', 0xff}, 1500)
		if n, err := pair[0].Memory().WriteAt(t.Context(), data, at); n != len(data) || err != nil {
			t.Errorf("wrote %d, %v", n, err)
		}
		got := make([]byte, len(data))
		if _, err := pair[1].Memory().ReadAt(t.Context(), got, at); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%v, or other bytes than were written", err)
		}
	}
}
