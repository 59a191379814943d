// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// TestDetect wants the format of each file, and why it was taken for it.
func TestDetect(t *testing.T) {
	mem := testimage.Random(1, page, 10)
	for name, tc := range map[string]struct {
		file   []byte
		opts   vmcore.Options
		format vmcore.Format
		reason string
	}{
		"ELF":       {(&testimage.VMCore{Mem: mem}).Bytes(), vmcore.Options{}, vmcore.ELF, `the file begins with "\x7fELF"`},
		"LiME":      {mem.LiME(testimage.LiMEOptions{}), vmcore.Options{}, vmcore.LiME, `the file begins with "EMiL"`},
		"AVML":      {mem.LiME(testimage.LiMEOptions{}), vmcore.Options{Format: vmcore.AVML}, vmcore.AVML, "the options say so"},
		"raw":       {mem.Raw(testimage.RawOptions{}), vmcore.Options{Format: vmcore.Raw}, vmcore.Raw, "the options say so"},
		"base":      {mem.Raw(testimage.RawOptions{}), vmcore.Options{Base: 1 << 30}, vmcore.Raw, "the options say so"},
		"raw ELF":   {(&testimage.VMCore{Mem: mem}).Bytes(), vmcore.Options{Format: vmcore.Raw}, vmcore.Raw, "the options say so"},
		"short raw": {[]byte{1}, vmcore.Options{Format: vmcore.Raw}, vmcore.Raw, "the options say so"},
	} {
		m := newImage(t, tc.file, &tc.opts)
		if meta := m.Meta(); meta.Format != tc.format || meta.Reason != tc.reason || len(meta.Parts) != 1 || meta.Parts[0].Size != int64(len(tc.file)) {
			t.Errorf("%s: %+v", name, meta)
		}
	}
}

// TestAdvice wants what is not read to be named, with what to do about it.
func TestAdvice(t *testing.T) {
	advice := map[string]string{
		"xz": "unpack it", "zstd": "unpack it", "bzip2": "unpack it", "lz4": "unpack it", "gzip": "unpack it",
		"LKCD": "LKCD", "LKCD, old": "LKCD", "LKCD, big-endian": "LKCD", "s390": "zgetdump",
		"libvirt save": "--memory-only", "libvirt save, part": "--memory-only", "QEMU migration": "dump-guest-memory",
		"SADUMP": "makedumpfile", "Windows, 64-bit": "Windows", "Windows, 32-bit": "Windows", "qcow2": "disk image",
		"LiME, compressed": "compress=1", "VMware state": ".vmem",
	}
	for _, s := range testimage.Signatures() {
		want, ok := advice[s.Name]
		if !ok {
			t.Errorf("no advice for %s", s.Name)
		}
		refuse(t, s.Name, s.File(8192), nil, want)
		refuse(t, s.Name+", short", s.Header, nil, want)
	}
	core := testimage.Core{Loads: []testimage.Load{{Addr: 0x400000, Data: make([]byte, page)}}}
	refuse(t, "a user core without notes", core.Bytes(), nil, "physical addresses")
	core.Notes = []testimage.Note{core.PRStatus(1, 11, make([]uint64, 27)...), core.PRPSInfo(1, 0, "x", "x"), core.Auxv(6, page)}
	refuse(t, "a user core", core.Bytes(), nil, "the core of a user process")
	core.Type = elf.ET_EXEC
	refuse(t, "vmlinux", core.Bytes(), nil, "vmlinux")
	core.Type = elf.ET_REL
	refuse(t, "module", core.Bytes(), &vmcore.Options{Format: vmcore.ELF}, "module")

	mem := testimage.Random(1, page, 5)
	kcore := testimage.VMCore{Mem: mem, Vaddr: directMap, Notes: []testimage.Note{{Name: "CORE", Type: 4}, info()}}
	refuse(t, "kcore", kcore.Bytes(), &vmcore.Options{Format: vmcore.ELF}, "live")
	refuse(t, "Xen", (&testimage.VMCore{Mem: &testimage.Physical{}, Notes: testimage.XenNotes()}).Bytes(), nil, "Xen")
	avml := mem.LiME(testimage.LiMEOptions{AVML: true})
	refuse(t, "AVML 2", avml, nil, "avml-convert")
	refuse(t, "AVML 2, forced", avml, &vmcore.Options{Format: vmcore.LiME}, "avml-convert")
	refuse(t, "zeros", make([]byte, 16<<20), nil, "the format raw")
	refuse(t, "few zeros", make([]byte, page), nil, `begins with "\x00`)
	refuse(t, "nothing", nil, nil, "an empty file")
	refuse(t, "no LiME", make([]byte, page), &vmcore.Options{Format: vmcore.LiME}, `\x00`)
	refuse(t, "LiME 2", mem.LiME(testimage.LiMEOptions{Version: 2}), nil, "version 2")
}

// TestHypervisors opens images by makers whose notes are not read, and tells.
func TestHypervisors(t *testing.T) {
	mem := wholly(scattered())
	for want, notes := range map[string][]testimage.Note{"Xen": testimage.XenNotes(), "VirtualBox": {{Name: "VBCORE"}}} {
		m := newImage(t, (&testimage.VMCore{Mem: mem, Notes: notes}).Bytes(), nil)
		compare(t, m, mem)
		if p := m.Meta().Problems; len(p) != 1 || !strings.Contains(p[0].Error(), want) {
			t.Errorf("%s: %v", want, p)
		}
	}
}

// refuse wants a file to be no image, and the reason to hold a text.
func refuse(t *testing.T, name string, b []byte, o *vmcore.Options, want string) {
	t.Helper()
	m, err := vmcore.New([]vmcore.File{inMemory("x", b)}, o)
	if m != nil || !errors.Is(err, remora.ErrUnrecognized) || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: %v, want %q", name, err, want)
		return
	}
	whole(t, err, "x")
}

// TestSpecialFiles wants what is no file with bytes to be refused.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{dir: "a directory", empty: "an empty file"} {
		_, err := vmcore.Open(path, nil)
		if !errors.Is(err, remora.ErrUnrecognized) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		whole(t, err, path)
	}
	if _, err := vmcore.Open(filepath.Join(dir, "none"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	good := saveFile(t, (&testimage.VMCore{Mem: testimage.Random(1, page, 3)}).Bytes())
	if _, err := vmcore.Open(good, &vmcore.Options{Parts: []string{dir}}); !errors.Is(err, remora.ErrUnrecognized) {
		t.Error(err)
	}
	if _, err := vmcore.Open(good, &vmcore.Options{Parts: []string{good}}); !errors.Is(err, remora.ErrCorrupt) {
		t.Error(err)
	}
	if _, err := vmcore.New(nil, nil); err == nil {
		t.Error("an image of no files")
	}
}

// TestOptions wants options that make no sense to be refused, as no fault of the file.
func TestOptions(t *testing.T) {
	mem := testimage.Random(1, page, 3)
	elfFile, raw := (&testimage.VMCore{Mem: mem}).Bytes(), make([]byte, 3*page)
	r := func(start remora.Addr, size uint64) remora.Range { return remora.Range{Start: start, Size: size} }
	for name, tc := range map[string]struct {
		file []byte
		opts vmcore.Options
		want string
	}{
		"format":          {elfFile, vmcore.Options{Format: "pdf"}, `no format is called "pdf"`},
		"base of an ELF":  {elfFile, vmcore.Options{Format: vmcore.ELF, Base: 1}, "are for the format raw"},
		"base too high":   {raw, vmcore.Options{Base: remora.MaxAddr - page}, "go past the last address"},
		"hole below base": {raw, vmcore.Options{Base: page, Hole: r(0, 5)}, "begins below the base"},
		"hole to the end": {raw, vmcore.Options{Hole: r(page, 1<<64-page)}, "go past the last address"},
		"hole too high":   {raw, vmcore.Options{Hole: r(page, 1<<64-2*page)}, "go past the last address"},
		"hole that wraps": {raw, vmcore.Options{Hole: r(2*page, 1<<64-1)}, "goes past the last address"},
		"segment wraps":   {raw, vmcore.Options{Segments: []remora.Range{r(page, 1<<64-1)}}, "goes past the last address"},
		"overlap":         {raw, vmcore.Options{Segments: []remora.Range{r(page, page), r(0, page+1)}}, "the segments overlap at 0x1000"},
		"both":            {raw, vmcore.Options{Base: 5, Segments: []remora.Range{r(page, page)}}, "a base or a hole besides"},
		"empty segments":  {raw, vmcore.Options{Segments: make([]remora.Range, 2)}, "no segment"},
	} {
		m, err := vmcore.New([]vmcore.File{inMemory("x", tc.file)}, &tc.opts)
		if m != nil || err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := errors.AsType[*remora.FormatError](err); ok {
			t.Errorf("%s: blames the file: %v", name, err)
		}
	}
}
