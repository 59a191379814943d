// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/testneed"
)

// TestR91LiveSymbolsOfTheRunningSystem are those of the kernel's memory, which are those of
// /proc/kallsyms, also where that hides them; or a refusal where neither can be had.
func TestR91LiveSymbolsOfTheRunningSystem(t *testing.T) {
	b, err := os.ReadFile("/proc/kallsyms")
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		testneed.Lacks(t, "this kernel has no /proc/kallsyms")
	}
	h := openRunningSystem(t, nil, os.O_RDONLY)
	list := []Nlist{{Name: "_stext"}, {Name: "no_such_symbol"}}
	n, nlistErr := h.NList(t.Context(), list)
	line := ""
	for l := range strings.Lines(string(b)) {
		if strings.HasSuffix(l, " T _stext\n") {
			line = strings.TrimSuffix(l, "\n")
		}
	}
	hidden := err != nil || strings.HasPrefix(line, "0000000000000000 ")
	if hidden && readable(t, h) != nil {
		wantFailed(t, n, nlistErr, errno.EACCES, fs.ErrPermission)
		return
	}
	if n != 1 || nlistErr != nil || list[0].Type != 'T' {
		t.Fatalf("%d, %v, %+v: want one that is missing", n, nlistErr, list)
	}
	t.Logf("_stext is at 0x%x", uint64(list[0].Value))
	if got := fmt.Sprintf("%016x %c %s", uint64(list[0].Value), list[0].Type, list[0].Name); !hidden && got != line {
		t.Errorf("%q: want %q", got, line)
	}
}

// readable says why the kernel's memory cannot be read, as reading itself does.
func readable(t *testing.T, h *Handle) error {
	t.Helper()
	n, err := h.KRead(t.Context(), make([]byte, 1), 0xffffffffffffffff)
	if n != -1 || err == nil {
		t.Fatalf("%d, %v: nothing is at the last address", n, err)
	}
	if errors.Is(err, errno.EFAULT) {
		return nil
	}
	if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) {
		t.Fatal(err)
	}
	return err
}

// TestR96LiveKernelOfTheRunningSystem reads where the system permits it, and elsewhere is
// told why it cannot; and it is told why it cannot write.
func TestR96LiveKernelOfTheRunningSystem(t *testing.T) {
	h := openRunningSystem(t, nil, os.O_RDWR)
	buf := make([]byte, 64)
	if why := readable(t, h); why != nil {
		for _, call := range []transfer{h.KRead, h.KWrite, h.PRead, h.PWrite} {
			n, err := call(t.Context(), buf, 0xffffffff81000000)
			wantFailed(t, n, err, number(why), number(why))
		}
		t.Log(why)
		return
	}
	version, err := os.ReadFile("/proc/version")
	if err != nil {
		t.Fatal(err)
	}
	list := []Nlist{{Name: "linux_banner"}}
	if n, err := h.NList(t.Context(), list); n != 0 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	at := list[0].Value
	pa, err := h.PhysAddr(t.Context(), KernelAS(), at)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		read transfer
		a    remora.Addr
	}{{h.KRead, at}, {h.PRead, pa}} {
		n, err := c.read(t.Context(), buf, c.a)
		wantAll(t, n, err, len(buf))
		if !bytes.HasPrefix(version, buf) {
			t.Errorf("%q, want %q", buf, version)
		}
	}
	t.Log("the kernel is read")
	for _, c := range []struct {
		write transfer
		a     remora.Addr
	}{{h.KWrite, at}, {h.PWrite, pa}} {
		n, err := c.write(t.Context(), buf, c.a) // what is there already
		if n == len(buf) && err == nil {
			continue // this kernel was built to let it be
		}
		wantFailed(t, n, err, errno.EACCES, fs.ErrPermission)
		if _, ok := errors.AsType[*remora.AccessError](err); !ok || errors.Is(err, remora.ErrReadOnly) {
			t.Errorf("%v: want a rule of the kernel's that refuses", err)
		}
		t.Log(err)
	}
}

// TestR96LiveVmalloc: memory of no fixed place is read by the page tables, and behind each
// area is a page that is not there, which is no zeros.
func TestR96LiveVmalloc(t *testing.T) {
	h := openRunningSystem(t, nil, os.O_RDONLY)
	if readable(t, h) != nil {
		return // see TestR96LiveKernelOfTheRunningSystem
	}
	before := vmallocs(t)
	if len(before) == 0 {
		t.Log("where areas are is hidden: kernel.kptr_restrict")
		return
	}
	got, physical := make([]byte, page), make([]byte, page)
	type result struct {
		remora.Range
		n        int
		err      error
		pa, none remora.Addr
	}
	var all []result
	for _, r := range before {
		x := result{Range: r}
		x.n, x.err = h.KRead(t.Context(), got, r.Last()+1-page)
		x.pa, _ = h.PhysAddr(t.Context(), KernelAS(), r.Start)
		x.none, _ = h.PhysAddr(t.Context(), KernelAS(), r.Last()+1-page)
		all = append(all, x)
	}
	after, seen := vmallocs(t), 0
	for _, x := range all {
		if !slices.Contains(after, x.Range) {
			continue
		}
		seen++
		if x.n != -1 || !errors.Is(x.err, errno.EFAULT) || !errors.Is(x.err, remora.ErrUnmapped) || x.none != remora.MaxAddr {
			t.Errorf("the page behind %v: %d, %v, at %v", x.Range, x.n, x.err, x.none)
		}
		if n, err := h.PRead(t.Context(), physical, x.pa); n != page || err != nil {
			t.Errorf("%v is at physical %v: %d, %v", x.Range, x.pa, n, err)
		}
		if n, err := h.KRead(t.Context(), got, x.Start); n != page || err != nil {
			t.Errorf("%v: %d, %v", x.Range, n, err)
		}
	}
	if seen == 0 {
		t.Errorf("none of %d areas stayed", len(before))
	}
	t.Logf("%d areas are as they should be", seen)
}

// vmallocs gives the areas of vmalloc that have pages and are not the stacks of tasks,
// which come and go: none where the kernel hides their addresses or gives others.
func vmallocs(t *testing.T) []remora.Range {
	t.Helper()
	b, err := os.ReadFile("/proc/vmallocinfo")
	if err != nil {
		t.Fatal(err)
	}
	var all []remora.Range
	for line := range strings.Lines(string(b)) {
		var from, to uint64
		n, _ := fmt.Sscanf(line, "0x%x-0x%x", &from, &to)
		if n == 2 && to > from && from >= 1<<63 && strings.Contains(line, " pages=") && strings.Contains(line, " vmalloc") && !strings.Contains(line, "stack") && !strings.Contains(line, "fork") {
			all = append(all, remora.Between(remora.Addr(from), remora.Addr(to)))
		}
	}
	return all
}
