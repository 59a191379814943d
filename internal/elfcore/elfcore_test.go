// SPDX-License-Identifier: Apache-2.0

package elfcore_test

import (
	"bytes"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
	"github.com/remora-go/remora/internal/testimage"
)

func read(b []byte) (*elfcore.File, error) {
	return elfcore.Read(bytes.NewReader(b), int64(len(b)), "test")
}

// both runs a test for each class and byte order.
func both(t *testing.T, f func(t *testing.T, c testimage.Core)) {
	for _, narrow := range []bool{false, true} {
		for _, big := range []bool{false, true} {
			t.Run(fmt.Sprintf("narrow=%v,big=%v", narrow, big), func(t *testing.T) {
				f(t, testimage.Core{Narrow: narrow, BigEndian: big})
			})
		}
	}
}

func TestHeaders(t *testing.T) {
	for _, extended := range []bool{false, true} {
		for _, last := range []bool{false, true} {
			both(t, func(t *testing.T, c testimage.Core) {
				c.Extended, c.ProgsLast = extended, last
				c.Machine = elf.EM_S390
				c.Loads = []testimage.Load{
					{Addr: 0x9000, Data: []byte("second"), Mem: 0x1000, Flags: elf.PF_R | elf.PF_W},
					{Null: true},
					{Addr: 0x8000, Lie: true, Off: 1 << 31, Filesz: 0x2000, Flags: elf.PF_X},
				}
				b := c.Bytes()
				f, err := read(b)
				if err != nil {
					t.Fatal(err)
				}
				if f.Wide() == c.Narrow || f.BigEndian != c.BigEndian || f.Type != elf.ET_CORE || f.Machine != elf.EM_S390 {
					t.Errorf("header: %+v", f)
				}
				first := 1
				if last {
					first = 0
				}
				want := []elfcore.Prog{
					{Type: elf.PT_LOAD, Flags: elf.PF_R | elf.PF_W, Vaddr: 0x9000, Filesz: 6, Memsz: 0x1000, Align: 1, Index: first},
					{Type: elf.PT_LOAD, Flags: elf.PF_X, Vaddr: 0x8000, Off: 1 << 31, Filesz: 0x2000, Memsz: 0x2000, Align: 1, Index: first + 2},
				}
				var got []elfcore.Prog
				for _, p := range f.Progs {
					if p.Type == elf.PT_LOAD {
						got = append(got, p)
					}
				}
				if d := cmp.Diff(want, got, cmpopts.IgnoreFields(elfcore.Prog{}, "Off")); d != "" {
					t.Fatal(d)
				}
				if got[1].Off != 1<<31 || f.Saved(&got[1]) != 0 {
					t.Errorf("segment past the end: offset %#x, %d bytes saved", got[1].Off, f.Saved(&got[1]))
				}
				if s := string(b[got[0].Off:][:f.Saved(&got[0])]); s != "second" {
					t.Errorf("first segment holds %q", s)
				}
				if o := f.ProgOffset(&got[1]); o+8 > int64(len(b)) || f.Order().Uint32(b[o:]) != uint32(elf.PT_LOAD) {
					t.Errorf("no PT_LOAD at %#x", o)
				}
			})
		}
	}
}

func notes(f *elfcore.File) (list []testimage.Note, err error) {
	for i := range f.Progs {
		if f.Progs[i].Type != elf.PT_NOTE {
			continue
		}
		for n, err := range f.Notes(&f.Progs[i]) {
			if err != nil {
				return list, err
			}
			d, err := f.Desc(n, 1<<20)
			if err != nil {
				return list, err
			}
			list = append(list, testimage.Note{Name: n.Owner, Type: n.Type, Desc: d})
		}
	}
	return list, nil
}

func TestNotes(t *testing.T) {
	want := []testimage.Note{
		{Name: "CORE", Type: 1, Desc: []byte("12345")},
		{Name: "", Type: 2, Desc: []byte("odd")},
		{Name: "LINUX", Type: 3, Desc: []byte{}},
		{Name: "GNU", Type: 4, Desc: bytes.Repeat([]byte("x"), 70000)},
		{Name: "Delve Header", Type: 5, Desc: []byte("last, not padded")},
	}
	for _, align := range [][2]uint64{{4, 4}, {8, 8}, {8, 4}} {
		both(t, func(t *testing.T, c testimage.Core) {
			c.NoteAlign, c.NotePad, c.Notes = align[0], align[1], want
			f, err := read(c.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			got, err := notes(f)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); d != "" {
				t.Errorf("p_align %d, padded to %d: %s", align[0], align[1], d)
			}
		})
	}
}

// TestNotesStop breaks off in the middle, which must not panic.
func TestNotesStop(t *testing.T) {
	c := testimage.Core{Notes: []testimage.Note{{Name: "A"}, {Name: "B"}}}
	f, err := read(c.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	for n, err := range f.Notes(&f.Progs[0]) {
		if n.Owner != "A" || err != nil {
			t.Fatalf("%+v, %v", n, err)
		}
		break
	}
}

func TestBuildID(t *testing.T) {
	c := testimage.Core{Type: elf.ET_DYN, Notes: []testimage.Note{{Name: "GNU", Type: 1}, testimage.BuildID([]byte{1, 2, 3})}}
	f, err := read(c.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if id, err := f.BuildID(); err != nil || hex.EncodeToString(id) != "010203" {
		t.Errorf("%x, %v", id, err)
	}
	c.Notes = nil
	if f, err = read(c.Bytes()); err != nil {
		t.Fatal(err)
	}
	if id, err := f.BuildID(); err == nil {
		t.Errorf("without a note: %x", id)
	}
}

// TestCut cuts a file at every byte: the headers are all there, or an error says
// where the file ends.
func TestCut(t *testing.T) {
	both(t, func(t *testing.T, c testimage.Core) {
		c.Extended = true
		c.Loads = []testimage.Load{{Addr: 0x1000, Data: []byte("data")}}
		c.Notes = []testimage.Note{{Name: "CORE", Type: 1, Desc: []byte("12345678")}}
		b := c.Bytes()
		for n := range b {
			f, err := read(b[:n])
			cause := remora.ErrTruncated
			if n < 4 {
				cause = remora.ErrUnrecognized
			}
			var bad *remora.FormatError
			if err == nil && n >= len(b)-16 {
				if _, err := notes(f); err != nil { // section 0 is cut behind sh_info
					t.Errorf("%d of %d bytes: %v", n, len(b), err)
				}
				continue
			}
			if !errors.As(err, &bad) || !errors.Is(err, cause) || bad.File != "test" || bad.Offset > int64(len(b)) {
				t.Errorf("%d of %d bytes: %v", n, len(b), err)
			}
		}
	})
}

// TestNotesCut cuts the notes at every byte.
func TestNotesCut(t *testing.T) {
	c := testimage.Core{NotesLast: true, Notes: []testimage.Note{
		{Name: "CORE", Type: 1, Desc: []byte("12345678")}, {Name: "CORE", Type: 2, Desc: []byte("1234")}}}
	b := c.Bytes()
	size := len(c.NoteBytes())
	for n := len(b) - size; n < len(b); n++ {
		f, err := read(b[:n])
		if err != nil {
			t.Fatal(err)
		}
		got, err := notes(f)
		if want := (n - (len(b) - size)) / 28; len(got) != want || !errors.Is(err, remora.ErrTruncated) {
			t.Errorf("cut at %d: %d notes, %v; want %d", n, len(got), err, want)
		}
	}
}

func TestHostile(t *testing.T) {
	le := (&testimage.Core{}).Order()
	for name, tc := range map[string]struct {
		change func(b []byte)
		want   error
	}{
		"class":         {func(b []byte) { b[4] = 3 }, remora.ErrCorrupt},
		"byte order":    {func(b []byte) { b[5] = 0 }, remora.ErrCorrupt},
		"magic":         {func(b []byte) { b[0] = 0 }, remora.ErrUnrecognized},
		"entry size":    {func(b []byte) { b[54] = 32 }, remora.ErrCorrupt},
		"table offset":  {func(b []byte) { le.PutUint64(b[32:], 1<<63+7) }, remora.ErrTruncated},
		"count":         {func(b []byte) { le.PutUint16(b[56:], 0xfffe) }, remora.ErrTruncated},
		"section 0":     {func(b []byte) { le.PutUint16(b[56:], 0xffff); le.PutUint64(b[40:], 1<<64-8) }, remora.ErrTruncated},
		"section count": {func(b []byte) { le.PutUint16(b[56:], 0xffff); le.PutUint64(b[40:], 8) }, remora.ErrTruncated},
	} {
		c := testimage.Core{Notes: []testimage.Note{{Name: "CORE", Desc: make([]byte, 100)}}}
		b := c.Bytes()
		tc.change(b)
		if _, err := read(b); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", name, err, tc.want)
		}
	}
	for name, head := range map[string][3]uint32{
		"name":       {1 << 31, 0, 1},
		"descriptor": {4, 1<<32 - 1, 1},
		"long name":  {1000, 0, 1},
	} {
		c := testimage.Core{Notes: []testimage.Note{{Name: "CORE", Desc: make([]byte, 2000)}}}
		b := c.Bytes()
		off := int(le.Uint64(b[64+8:]))
		for i, v := range head {
			le.PutUint32(b[off+4*i:], v)
		}
		f, err := read(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := notes(f); !errors.Is(err, remora.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sparse is a file of zeros behind a header.
type sparse struct {
	head []byte
	size int64
}

func (s sparse) ReadAt(p []byte, off int64) (int, error) {
	clear(p)
	if off < int64(len(s.head)) {
		copy(p, s.head[off:])
	}
	return len(p), nil
}

// TestMemory gives counts that the file is large enough for.
func TestMemory(t *testing.T) {
	c := testimage.Core{Extended: true}
	b := c.Bytes()
	le := c.Order()
	shoff := le.Uint64(b[40:])
	before := new(runtime.MemStats)
	runtime.ReadMemStats(before)

	le.PutUint32(b[shoff+44:], 1<<32-1)
	if _, err := elfcore.Read(sparse{b, 1 << 40}, 1<<40, "t"); !errors.Is(err, remora.ErrCorrupt) {
		t.Errorf("2^32-1 headers: %v", err)
	}
	le.PutUint32(b[shoff+44:], 1)
	le.PutUint64(b[64+32:], 1<<39) // a terabyte of empty notes
	f, err := elfcore.Read(sparse{b, 1 << 40}, 1<<40, "t")
	if err != nil {
		t.Fatal(err)
	}
	var count int
	for _, err = range f.Notes(&f.Progs[0]) {
		count++
	}
	if !errors.Is(err, remora.ErrCorrupt) || count != elfcore.MaxNotes+1 {
		t.Errorf("endless notes: %d, %v", count, err)
	}
	after := new(runtime.MemStats)
	runtime.ReadMemStats(after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("allocated %d bytes", n)
	}
}

var errDisk = errors.New("disk on fire")

type broken struct{}

func (broken) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

func TestReadError(t *testing.T) {
	_, err := elfcore.Read(broken{}, 1000, "t")
	if bad, ok := errors.AsType[*remora.FormatError](err); !ok || !errors.Is(err, errDisk) {
		t.Errorf("%v, %v", bad, err)
	}
}

// TestSelf reads this very program where it is an ELF file, and compares with debug/elf.
func TestSelf(t *testing.T) {
	if runtime.GOOS == "windows" || runtime.GOOS == "darwin" {
		return // programs are not ELF files there
	}
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	std, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer std.Close()
	r, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	st, err := r.Stat()
	if err != nil {
		t.Fatal(err)
	}
	f, err := elfcore.Read(r, st.Size(), path)
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != std.Machine || len(f.Progs) != len(std.Progs) {
		t.Fatalf("%v with %d headers, want %v with %d", f.Machine, len(f.Progs), std.Machine, len(std.Progs))
	}
	for i, p := range f.Progs {
		w := std.Progs[i].ProgHeader
		if got := (elf.ProgHeader{Type: p.Type, Flags: p.Flags, Off: p.Off, Vaddr: p.Vaddr, Paddr: p.Paddr, Filesz: p.Filesz, Memsz: p.Memsz, Align: p.Align}); got != w {
			t.Errorf("header %d: %+v, want %+v", i, got, w)
		}
	}
}

// TestNotesIn: notes of a file that is no ELF file, up to one that is cut off.
func TestNotesIn(t *testing.T) {
	c := testimage.Core{BigEndian: true, Notes: []testimage.Note{{Name: "CORE", Type: 1, Desc: []byte("12345")}, {Name: "QEMU", Desc: []byte("6")}}}
	b := c.NoteBytes()
	const off = 1000
	for cut := range len(b) {
		var got []elfcore.Note
		var bad error
		for n, err := range elfcore.NotesIn(b[:cut], off, c.Order(), "dump") {
			if bad = err; err == nil {
				got = append(got, n)
			}
		}
		want := 0
		if cut >= 25 { // the first ends at 25, its padding at 28
			want++
		}
		if cut >= 49 {
			want++
		}
		damaged := cut > 3 && cut < 25 || cut > 31 && cut < 49 // a few zeros are padding
		if len(got) != want || damaged != (bad != nil) {
			t.Errorf("%d bytes: %+v, %v", cut, got, bad)
		}
		for _, n := range got {
			if desc := b[n.Off-off:][:n.Size]; string(desc) != map[string]string{"CORE": "12345", "QEMU": "6"}[n.Owner] {
				t.Errorf("%d bytes: %+v", cut, n)
			}
		}
		if bad != nil && !strings.HasPrefix(bad.Error(), "dump: offset 0x") {
			t.Error(bad)
		}
	}
}
