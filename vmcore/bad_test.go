// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// scattered is memory of three runs.
func scattered() *testimage.Physical {
	mem := testimage.Random(9, page, 6)
	for _, pfn := range []uint64{100, 101, 200} {
		mem.Set(pfn, []byte{1, 2, byte(pfn)})
	}
	return mem
}

// sound are small images of the formats that keep memory as it is.
func sound() map[string][]byte {
	mem := scattered()
	state := testimage.QEMUState{RIP: 5}
	all := map[string][]byte{"LiME": mem.LiME(testimage.LiMEOptions{})}
	for name, v := range variants(mem) {
		if name == "headers far" {
			continue // a gap of zeros that says nothing
		}
		v.Notes = append(v.Notes, state.Note(), testimage.DeviceDump("eth0", []byte("regs")))
		all[name] = v.Bytes()
	}
	return all
}

// open opens b, which may be anything, and goes through all that an image can say. What is
// allocated must be in proportion to the file.
func open(t *testing.T, name string, b []byte, o *vmcore.Options) *vmcore.Image {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	m, err := vmcore.New([]vmcore.File{inMemory("bad", b)}, o)
	runtime.ReadMemStats(&after)
	if n, limit := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+100*len(b)); n > limit {
		t.Errorf("%s: %d bytes allocated for a file of %d", name, n, len(b))
	}
	if err != nil {
		if m != nil {
			t.Errorf("%s: an image and %v", name, err)
		}
		whole(t, err, "bad")
		return nil
	}
	for _, bad := range m.Meta().Problems {
		whole(t, bad, "bad")
	}
	if _, err := m.Describe(context.Background()); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	walk(t, m)
	return m
}

// walk reads around the borders of the first runs: bytes one by one and together must
// tell the same, and the same as the run that they are of.
func walk(t *testing.T, m *vmcore.Image) {
	t.Helper()
	around(t, m, 0)
	around(t, m, remora.MaxAddr)
	var last vmcore.Run
	count := 0
	for r, err := range m.Runs(context.Background()) {
		if err != nil || r.Empty() || r.Last() < r.Start || count > 0 && r.Start <= last.Last() || errors.Is(r.Err, remora.ErrHole) {
			t.Fatalf("run %v after %v, %v", r, last, err)
		}
		if _, err := at(m, r.Start); !errors.Is(err, r.Err) {
			t.Fatalf("run %v begins with %v", r, err)
		}
		around(t, m, r.Start)
		around(t, m, r.Last())
		last = r
		if count++; count == 50 {
			break
		}
	}
}

func around(t *testing.T, m *vmcore.Image, a remora.Addr) {
	t.Helper()
	const half = 5
	a -= half
	var buf [2*half + 1]byte
	segs := []remora.Seg{{Addr: a, Buf: buf[:]}}
	_, err := m.Transfer(context.Background(), remora.Read, segs)
	n := segs[0].N
	if n < 0 || n > len(buf) || (n == len(buf)) != (err == nil) || err != segs[0].Err || err != nil && !errors.Is(err, remora.ErrFault) {
		t.Fatalf("%v: %d bytes, %v", a, n, err)
	}
	for i := range n + 1 {
		b := a + remora.Addr(i)
		if i == len(buf) || b < a {
			break
		}
		got, oneErr := at(m, b)
		if i < n && (oneErr != nil || got != buf[i]) || i == n && !errors.Is(oneErr, err) {
			t.Fatalf("%v: %d bytes, %v; the byte at %v alone: %v", a, n, err, b, oneErr)
		}
	}
}

// TestCut cuts images off everywhere in their headers, and here and there behind them.
func TestCut(t *testing.T) {
	for name, b := range sound() {
		for n := range len(b) {
			if n > 600 && n%page > 40 && n%page < page-1 && n < len(b)-10 {
				continue
			}
			m := open(t, name, b[:n], nil)
			if m == nil {
				continue
			}
			if len(m.Meta().Problems) == 0 && !atBorder(name, b, n) {
				t.Errorf("%s: no problem when cut off at 0x%x of 0x%x", name, n, len(b))
			}
			m.Close()
		}
	}
}

// atBorder says that nothing is missing from the first n bytes that can be missed.
func atBorder(name string, b []byte, n int) bool {
	switch name {
	case "LiME":
		return bytes.HasPrefix(b[n:], []byte("EMiL"))
	case "extended", "32-bit BE":
		return len(b)-n <= 64 // in section 0, behind the field that counts
	}
	return false
}

// TestCutReads wants the bytes before the cut, and nothing of what was behind it.
func TestCutReads(t *testing.T) {
	mem := scattered()
	b := mem.LiME(testimage.LiMEOptions{})
	b = b[:len(b)-1000]
	m := newImage(t, b, nil)
	end := remora.Addr(mem.End() * page)
	if _, err := at(m, end-1); !errors.Is(err, remora.ErrTruncated) || !strings.Contains(err.Error(), "would be at 0x") {
		t.Error(err)
	}
	if _, err := at(m, end); !errors.Is(err, remora.ErrTruncated) || !strings.Contains(err.Error(), "end early") {
		t.Error(err)
	}
	got := make([]byte, 2*page)
	n, err := m.Memory().ReadAt(context.Background(), got, end-page)
	if want := b[len(b)-page+1000:]; n != len(want) || !bytes.Equal(got[:n], want) || !errors.Is(err, remora.ErrTruncated) {
		t.Errorf("%d bytes, want %d: %v", n, len(want), err)
	}
}

// TestHostileFields puts values that nobody should trust into every field of the headers.
func TestHostileFields(t *testing.T) {
	images := sound()
	for _, name := range []string{"proc", "32-bit BE", "QEMU", "LiME"} {
		b, fields := images[name], testimage.ELFFields
		if name == "LiME" {
			fields = testimage.LiMEFields
		}
		for _, f := range fields(b) {
			for _, v := range f.Hostile() {
				if m := open(t, name+" "+f.Name, f.Set(b, v), nil); m != nil {
					m.Close()
				}
			}
		}
	}
}

// TestPlanted plants one damage after the other, and wants Check to find it.
func TestPlanted(t *testing.T) {
	mem := scattered()
	good := (&testimage.VMCore{Mem: mem, Notes: []testimage.Note{info()}}).Bytes()
	lime := mem.LiME(testimage.LiMEOptions{})
	set := func(b []byte, name string, change func(v uint64) uint64) []byte {
		fields := testimage.ELFFields
		if bytes.HasPrefix(b, []byte("EMiL")) {
			fields = testimage.LiMEFields
		}
		for _, f := range fields(b) {
			if f.Name == name {
				return f.Set(b, change(f.Value))
			}
		}
		t.Fatalf("no field %s", name)
		return nil
	}
	to := func(v uint64) func(uint64) uint64 { return func(uint64) uint64 { return v } }
	note := func(notes ...testimage.Note) []byte { return (&testimage.VMCore{Mem: mem, Notes: notes}).Bytes() }
	text := func(text string) []byte { return note(testimage.VMCoreInfoNote([]byte(text))) }
	short := func(n testimage.Note, size int) testimage.Note { n.Desc = n.Desc[:size]; return n }
	state := testimage.QEMUState{}
	prStatus := (&testimage.Core{}).PRStatus(1, 0, make([]uint64, 27)...)
	for name, tc := range map[string]struct {
		file []byte
		opts vmcore.Options
		want string
		err  remora.Cause
	}{
		"ELF":                 {file: good},
		"LiME":                {file: lime},
		"raw":                 {file: good, opts: vmcore.Options{Format: vmcore.Raw}},
		"p_filesz > p_memsz":  {file: set(good, "1.p_filesz", func(v uint64) uint64 { return v + 1 }), want: "p_filesz <= p_memsz", err: remora.ErrCorrupt},
		"p_paddr at the end":  {file: set(good, "1.p_paddr", to(1<<64-page+1)), want: "within the address space", err: remora.ErrCorrupt},
		"p_offset past end":   {file: set(good, "2.p_offset", to(1<<40)), want: "bytes at 0x10000000000 of the file", err: remora.ErrTruncated},
		"cut off":             {file: good[:len(good)-1], want: "bytes at 0x", err: remora.ErrTruncated},
		"incomplete":          {file: set(good, "e_flags", to(1)), want: "a whole image", err: remora.ErrTruncated},
		"note with no end":    {file: set(good, "0.p_filesz", func(v uint64) uint64 { return v - 8 }), want: "a note with a name of 11", err: remora.ErrCorrupt},
		"notes past the end":  {file: set(good, "0.p_offset", to(1<<40)), want: "a note", err: remora.ErrTruncated},
		"line without a key":  {file: text("A=1\n=2\n"), want: "a line KEY=VALUE", err: remora.ErrCorrupt},
		"line without =":      {file: text("A=1\nB\nC=2\n"), want: "a line KEY=VALUE", err: remora.ErrCorrupt},
		"line with a control": {file: text("A=1\nB=\x1b[2J\n"), want: "a line KEY=VALUE", err: remora.ErrCorrupt},
		"two VMCOREINFO":      {file: note(info(), info()), want: "one note VMCOREINFO", err: remora.ErrCorrupt},
		"short NT_PRSTATUS":   {file: note(short(prStatus, 300)), want: "NT_PRSTATUS of at least 328 bytes", err: remora.ErrCorrupt},
		"short QEMU note":     {file: note(short(state.Note(), 400)), want: "the state of a processor", err: remora.ErrCorrupt},
		"LiME magic":          {file: set(lime, "1.magic", to(0x12345678)), want: "the header of a range", err: remora.ErrCorrupt},
		"LiME version":        {file: set(lime, "1.version", to(2)), want: "version 1", err: remora.ErrCorrupt},
		"LiME reserved":       {file: set(lime, "0.reserved", to(1)), want: "8 bytes of zeros", err: remora.ErrCorrupt},
		"LiME order":          {file: set(lime, "1.s_addr", to(0)), want: "a range above", err: remora.ErrCorrupt},
		"LiME last < first":   {file: set(lime, "1.e_addr", to(0)), want: "the first and the last address", err: remora.ErrCorrupt},
		"LiME too long":       {file: set(lime, "0.e_addr", func(v uint64) uint64 { return v + page }), want: "the header of a range", err: remora.ErrCorrupt},
		"LiME cut off":        {file: lime[:len(lime)-1], want: "bytes, for", err: remora.ErrTruncated},
		"LiME with a tail":    {file: append(bytes.Clone(lime), 0, 0, 0), want: "the header of a range", err: remora.ErrTruncated},
		"raw cut off":         {file: good, opts: vmcore.Options{Segments: []remora.Range{{Start: 5, Size: 1 << 30}}}, want: "as many as the segments", err: remora.ErrTruncated},
		"raw with a tail":     {file: good, opts: vmcore.Options{Segments: []remora.Range{{Start: 5, Size: 100}}}, want: "with the last segment", err: remora.ErrCorrupt},
	} {
		m := newImage(t, tc.file, &tc.opts)
		all := damages(t, m)
		if tc.want == "" {
			if len(all) > 0 || len(m.Meta().Problems) > 0 {
				t.Errorf("%s: %v, %v", name, all, m.Meta().Problems)
			}
			continue
		}
		found := false
		for _, bad := range all {
			whole(t, bad, "image")
			found = found || strings.Contains(bad.Want, tc.want) && bad.Err == tc.err
		}
		if !found {
			t.Errorf("%s: %v", name, all)
		}
	}
}

// TestUnreadable has a file whose disk fails.
func TestUnreadable(t *testing.T) {
	mem := scattered()
	b := (&testimage.VMCore{Mem: mem}).Bytes()
	broken := errors.New("the disk fails")
	f := inMemory("disk", b)
	f.R = failing{f.R, int64(len(b)) - 100, broken}
	m, err := vmcore.New([]vmcore.File{f}, nil)
	if err != nil {
		t.Fatal(err)
	}
	end := remora.Addr(mem.End() * page)
	buf := make([]byte, page)
	n, err := m.Memory().ReadAt(context.Background(), buf, end-page)
	if n != page-100 || !errors.Is(err, remora.ErrIO) || !strings.Contains(err.Error(), "the disk fails") || !bytes.Equal(buf[:n], b[len(b)-page:][:n]) {
		t.Errorf("%d, %v", n, err)
	}
	if all := damages(t, m); len(all) != 1 || all[0].Err != broken || all[0].Offset != int64(len(b))-100 {
		t.Errorf("%v", all)
	}
	f.R = failing{f.R, 10, broken}
	if _, err := vmcore.New([]vmcore.File{f}, nil); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// failing cannot be read from an offset on.
type failing struct {
	r interface {
		ReadAt([]byte, int64) (int, error)
	}
	end int64
	err error
}

func (f failing) ReadAt(b []byte, off int64) (int, error) {
	if off+int64(len(b)) <= f.end {
		return f.r.ReadAt(b, off)
	}
	if off >= f.end {
		return 0, f.err
	}
	n, _ := f.r.ReadAt(b[:f.end-off], off)
	return n, f.err
}

// TestNothing has ELF images without memory.
func TestNothing(t *testing.T) {
	none := testimage.VMCore{Mem: &testimage.Physical{}, Notes: []testimage.Note{info()}}
	for name, b := range map[string][]byte{
		"no segment":  none.Bytes(),
		"no headers":  (&testimage.VMCore{Mem: &testimage.Physical{}}).Bytes(),
		"no physical": (&testimage.Core{Notes: []testimage.Note{info()}, Machine: elf.EM_AARCH64}).Bytes(),
	} {
		if _, err := vmcore.New([]vmcore.File{inMemory("x", b)}, nil); !errors.Is(err, remora.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
