// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
	"github.com/remora-go/remora/internal/testimage"
)

// A small kernel image: the kernel at dumpText, which lies at dumpLoad, and page 0x5000 of
// physical memory; the page behind the kernel's text was left out.
const (
	dumpText = remora.Addr(0xffffffff81000000)
	dumpLoad = 0x4000000
	dumpInfo = "OSRELEASE=6.12.0-test\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff81000000\nSYMBOL(swapper_pg_dir)=ffffffff81002000\n" +
		"NUMBER(phys_base)=50331648\nNUMBER(pgtable_l5_enabled)=0\n"
	dumpWords = "the text of the kernel"
)

// writeDump writes the image, and gives its name and bytes.
func writeDump(t testing.TB, kdump bool) (string, []byte) {
	t.Helper()
	mem := &testimage.Physical{}
	mem.Set(5, []byte("page five"))
	tables := testimage.NewTables(mem, testimage.TableModes()[0], dumpLoad+0x2000)
	for at := uint64(0); at < 1<<20; at += page {
		tables.Map(uint64(dumpText)+at, dumpLoad+at, page)
	}
	mem.Write(dumpLoad, []byte(dumpWords))
	mem.Mark(dumpLoad/page+1, 1, testimage.Excluded)
	v := &testimage.VMCore{Mem: mem, Notes: []testimage.Note{testimage.VMCoreInfoNote([]byte(dumpInfo))}}
	b := v.Bytes()
	if kdump {
		k := testimage.NewKdump(mem)
		k.VMCoreInfo, k.DumpLevel, k.Compress = []byte(dumpInfo), 31, testimage.Zlib
		b = k.Bytes()
	}
	return writeFile(t, "vmcore", string(b)), b
}

func openDump(t testing.TB, name string, flag int, o *Options) *Handle {
	t.Helper()
	h, err := OpenWith(t.Context(), o, "", name, "", flag, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// TestR97ImageFiles reads images: up to the first page that is missing.
func TestR97ImageFiles(t *testing.T) {
	for _, kdump := range []bool{false, true} {
		name, _ := writeDump(t, kdump)
		h := openDump(t, name, os.O_RDONLY, nil)
		b := make([]byte, len(dumpWords))
		n, err := h.KRead(t.Context(), b, dumpText)
		wantAll(t, n, err, len(b))
		if string(b) != dumpWords {
			t.Errorf("%q", b)
		}
		n, err = h.ARead(t.Context(), KernelAS(), b, dumpText)
		wantAll(t, n, err, len(b))
		n, err = h.PRead(t.Context(), b[:9], 0x5000)
		wantAll(t, n, err, 9)
		if string(b[:9]) != "page five" {
			t.Errorf("%q", b)
		}
		n, err = h.KRead(t.Context(), b, dumpText+page-4)
		wantShort(t, n, err, 4, dumpText+page, remora.ErrNotSaved)
		n, err = h.KRead(t.Context(), b, dumpText+page)
		wantFailed(t, n, err, errno.EFAULT, remora.ErrNotSaved)
		n, err = h.KRead(t.Context(), b, 0x1000)
		wantFailed(t, n, err, errno.EFAULT, remora.ErrUnmapped)
		n, err = h.URead(t.Context(), b, 0x1000)
		wantFailed(t, n, err, errno.ENOENT, ErrNoProcess)
		if pa, err := h.PhysAddr(t.Context(), KernelAS(), dumpText+0x2345); err != nil || pa != dumpLoad+0x2345 {
			t.Errorf("%v, %v", pa, err)
		}
		if pa, err := h.PhysAddr(t.Context(), KernelAS(), 0x1000); err == nil || pa != remora.MaxAddr {
			t.Errorf("%v, %v", pa, err)
		}
		// There are no symbols, and so no processes.
		if p, err := h.NextProc(t.Context()); p != nil || err == nil || err == io.EOF {
			t.Errorf("%v, %v", p, err)
		}
		if n, err := h.NList(t.Context(), []Nlist{{Name: "x"}}); n != -1 || err == nil {
			t.Errorf("%d, %v", n, err)
		}
	}
}

// TestR97ImageWrites changes exactly those bytes of the file.
func TestR97ImageWrites(t *testing.T) {
	name, before := writeDump(t, false)
	h := openDump(t, name, os.O_RDWR, nil)
	text := []byte("changed")
	n, err := h.KWrite(t.Context(), text, dumpText+4)
	wantAll(t, n, err, len(text))
	n, err = h.PWrite(t.Context(), []byte("PAGE"), 0x5000)
	wantAll(t, n, err, 4)
	n, err = h.KWrite(t.Context(), text, dumpText+page-2)
	wantShort(t, n, err, 2, dumpText+page, remora.ErrNotSaved)
	n, err = h.KWrite(t.Context(), text, dumpText+page)
	wantFailed(t, n, err, errno.EFAULT, remora.ErrNotSaved)
	b := make([]byte, len(dumpWords))
	n, err = h.KRead(t.Context(), b, dumpText)
	wantAll(t, n, err, len(b))
	if string(b) != "the changed the kernel" {
		t.Errorf("%q", b)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	want := bytes.Clone(before)
	at := bytes.Index(want, []byte(dumpWords))
	copy(want[at+4:], text)
	copy(want[at+page-2:], text[:2])
	copy(want[bytes.Index(want, []byte("page five")):], "PAGE")
	if after, err := os.ReadFile(name); err != nil || !bytes.Equal(after, want) || bytes.Equal(after, before) {
		t.Errorf("%v: the file has other bytes than those written", err)
	}
}

func TestR97ImageIsNotWritten(t *testing.T) {
	for _, kdump := range []bool{false, true} {
		name, before := writeDump(t, kdump)
		h := openDump(t, name, os.O_RDONLY, nil)
		n, err := h.KWrite(t.Context(), []byte("x"), dumpText)
		wantFailed(t, n, err, errno.EBADF, remora.ErrReadOnly)
		// In memory, all views see what is written.
		o := openDump(t, name, os.O_RDWR, &Options{Overlay: true})
		n, err = o.KWrite(t.Context(), []byte("THE"), dumpText)
		wantAll(t, n, err, 3)
		b := make([]byte, 8)
		n, err = o.PRead(t.Context(), b, dumpLoad)
		wantAll(t, n, err, 8)
		if string(b) != "THE text" {
			t.Errorf("%q", b)
		}
		if n, err := h.KRead(t.Context(), b, dumpText); n != 8 || string(b) != "the text" {
			t.Errorf("%q, %v", b, err)
		}
		if err := o.Close(); err != nil {
			t.Error(err)
		}
		if after, err := os.ReadFile(name); err != nil || !bytes.Equal(after, before) {
			t.Errorf("%v: the file has changed", err)
		}
	}
	name, _ := writeDump(t, true)
	_, err := Open("", name, "", os.O_RDWR, "")
	wantError(t, err, errno.EROFS, remora.ErrReadOnly)
	if !strings.Contains(err.Error(), "convert it to ELF") {
		t.Error(err)
	}
}

func TestR88SwapFileOfAnImage(t *testing.T) {
	name, _ := writeDump(t, false)
	_, err := Open("", name, name+".none", os.O_RDONLY, "")
	wantError(t, err, errno.ENOENT, os.ErrNotExist)
	h, err := Open("", name, writeFile(t, "swap", "no swap area"), os.O_RDONLY, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Error(err)
	}
}
