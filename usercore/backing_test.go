// SPDX-License-Identifier: Apache-2.0

package usercore_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/usercore"
)

// victim is a mapped ELF file of three pages, headers, text and data, and the
// directory that stands for the root of the system.
type victim struct {
	root string
	path string // below root
	file []byte
	base remora.Addr
}

// newVictim writes the file.
func newVictim(t *testing.T) *victim {
	t.Helper()
	v := &victim{root: t.TempDir(), path: "/lib/victim.so", base: 0x30000, file: victimFile([]byte{0xab, 0xcd})}
	v.write(t, v.file)
	return v
}

// victimFile gives an ELF file with a build id.
func victimFile(id []byte) []byte {
	f := testimage.Core{Type: elf.ET_DYN, Loads: []testimage.Load{
		{Lie: true, Filesz: page, Addr: 0, Flags: elf.PF_R},
		{Lie: true, Filesz: page, Addr: page, Off: page, Flags: elf.PF_R | elf.PF_X},
		{Lie: true, Filesz: page, Addr: 2 * page, Off: 2 * page, Flags: elf.PF_R | elf.PF_W},
	}}
	f.Notes = []testimage.Note{testimage.BuildID(id)}
	b := f.Bytes()
	b = append(b, fill(page-len(b), 11)...)
	return append(b, fill(2*page, 12)...)
}

// disk is where the file lies.
func (v *victim) disk() string { return filepath.Join(v.root, filepath.FromSlash(v.path)) }

func (v *victim) write(t *testing.T, b []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(v.disk()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(v.disk(), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// addTo maps the file into a core, as the kernel does: the first page is saved,
// text is not, and neither are here the data, which are read-only by now.
func (v *victim) addTo(c *testimage.Core) {
	a := uint64(v.base)
	loads := []testimage.Load{
		{Addr: a, Data: v.file[:page], Flags: elf.PF_R},
		{Addr: a + page, Mem: page, Flags: elf.PF_R | elf.PF_X},
		{Addr: a + 2*page, Mem: page, Flags: elf.PF_R},
	}
	c.Loads = append(loads, c.Loads...)
	for i := range c.Notes {
		if c.Notes[i].Type == 0x46494c45 {
			c.Notes[i] = c.Files(
				testimage.Mapping{Start: 0x20000, End: 0x21000, Name: "/lib/listed"},
				testimage.Mapping{Start: a, End: a + page, Page: 0, Name: v.path},
				testimage.Mapping{Start: a + page, End: a + 2*page, Page: 1, Name: v.path},
				testimage.Mapping{Start: a + 2*page, End: a + 3*page, Page: 2, Name: v.path})
		}
	}
}

// core is a core with the file mapped, and v may be changed before.
func (v *victim) core() []byte {
	c := testimage.Core{}
	c.Notes = []testimage.Note{c.PRStatus(1, 11, make([]uint64, 27)...), c.PRPSInfo(1, 0, "x", "x"), c.Auxv(6, page), c.Files()}
	v.addTo(&c)
	return c.Bytes()
}

// text reads the page of text and the page of data behind it.
func (v *victim) text(t *testing.T, o *usercore.Options) (*usercore.Core, []byte, error) {
	t.Helper()
	b := v.core()
	c, err := usercore.New(bytes.NewReader(b), int64(len(b)), "test.core", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	buf := make([]byte, 2*page)
	n, err := c.Memory().ReadAt(context.Background(), buf, v.base+page)
	return c, buf[:n], err
}

func TestFilesAgree(t *testing.T) {
	v := newVictim(t)
	c, got, err := v.text(t, &usercore.Options{Files: true, Root: v.root})
	if !bytes.Equal(got, v.file[page:2*page]) || !errors.Is(err, remora.ErrNotSaved) {
		t.Errorf("%d bytes, %v; want the page of text alone", len(got), err)
	}
	if err == nil || !strings.Contains(err.Error(), "writable segment") {
		t.Errorf("data: %v", err)
	}
	if s := facts(t, c); !strings.Contains(s, "from files: 4096 bytes\n") || strings.Contains(s, "file not used: "+v.path) {
		t.Error(s)
	}
}

// TestFilesNotAsked has the right file at hand, and must not look at it.
func TestFilesNotAsked(t *testing.T) {
	v := newVictim(t)
	for _, o := range []*usercore.Options{nil, {Root: v.root}} {
		if _, got, err := v.text(t, o); len(got) != 0 || !errors.Is(err, remora.ErrNotSaved) {
			t.Errorf("%+v: %d bytes, %v", o, len(got), err)
		}
	}
}

// TestFilesRefused changes what lies on disk, or what the core says of it; none of
// it may come from the file, and the reason must be told.
func TestFilesRefused(t *testing.T) {
	other := victimFile([]byte{0xab, 0xce})
	for name, tc := range map[string]struct {
		change func(t *testing.T, v *victim)
		why    string
	}{
		"another build id": {func(t *testing.T, v *victim) { v.write(t, other) }, "has build id abce, the mapped file had abcd"},
		"no build id on disk": {func(t *testing.T, v *victim) {
			v.write(t, bytes.Replace(v.file, []byte("GNU\x00\xab\xcd"), []byte("GNX\x00\xab\xcd"), 1))
		}, "want a build id"},
		"no build id in the core": {func(t *testing.T, v *victim) {
			v.file = bytes.Replace(v.file, []byte("GNU\x00\xab\xcd"), []byte("GNX\x00\xab\xcd"), 1)
		}, "does not tell the build id"},
		"missing": {func(t *testing.T, v *victim) {
			if err := os.Remove(v.disk()); err != nil {
				t.Fatal(err)
			}
		}, "victim.so"},
		"empty":           {func(t *testing.T, v *victim) { v.write(t, nil) }, "an empty file"},
		"cut in the head": {func(t *testing.T, v *victim) { v.write(t, v.file[:100]) }, "want 4 program headers"},
		"no ELF file":     {func(t *testing.T, v *victim) { v.write(t, fill(3*page, 1)) }, "want an ELF file"},
		"a directory": {func(t *testing.T, v *victim) {
			if err := errors.Join(os.Remove(v.disk()), os.Mkdir(v.disk(), 0o700)); err != nil {
				t.Fatal(err)
			}
		}, "is not a regular file"},
		"deleted":         {func(t *testing.T, v *victim) { v.path += " (deleted)" }, "was deleted before the core was made"},
		"cut before text": {func(t *testing.T, v *victim) { v.write(t, v.file[:page]) }, "past the end of"},
	} {
		t.Run(name, func(t *testing.T) {
			v := newVictim(t)
			tc.change(t, v)
			_, got, err := v.text(t, &usercore.Options{Files: true, Root: v.root})
			if len(got) != 0 || !errors.Is(err, remora.ErrNotSaved) || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("%d bytes, %v; want %q", len(got), err, tc.why)
			}
		})
	}
}

// TestFilesCut has a file that ends inside its text.
func TestFilesCut(t *testing.T) {
	v := newVictim(t)
	v.write(t, v.file[:page+100])
	_, got, err := v.text(t, &usercore.Options{Files: true, Root: v.root})
	if !bytes.Equal(got, v.file[page:page+100]) || !errors.Is(err, remora.ErrNotSaved) || !strings.Contains(err.Error(), "past the end of") {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestFilesShrunk cuts the file while it is in use: what is gone is beyond its end,
// as it would be for a process that has it mapped.
func TestFilesShrunk(t *testing.T) {
	v := newVictim(t)
	c, _, _ := v.text(t, &usercore.Options{Files: true, Root: v.root})
	if err := os.Truncate(v.disk(), page+10); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, page)
	n, err := c.Memory().ReadAt(context.Background(), buf, v.base+page)
	if n != 10 || !bytes.Equal(buf[:n], v.file[page:page+10]) || !errors.Is(err, remora.ErrBeyondEOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// TestFilesSavedWins maps text that a debugger changed, so that the core holds it.
func TestFilesSavedWins(t *testing.T) {
	v := newVictim(t)
	c := testimage.Core{}
	c.Notes = []testimage.Note{c.PRStatus(1, 11, make([]uint64, 27)...), c.PRPSInfo(1, 0, "x", "x"), c.Auxv(6, page), c.Files()}
	v.addTo(&c)
	c.Loads[1].Data = fill(page, 99)
	b := c.Bytes()
	core, err := usercore.New(bytes.NewReader(b), int64(len(b)), "test.core", &usercore.Options{Files: true, Root: v.root})
	if err != nil {
		t.Fatal(err)
	}
	defer core.Close()
	buf := make([]byte, page)
	if _, err := core.Memory().ReadAt(context.Background(), buf, v.base+page); err != nil || !bytes.Equal(buf, fill(page, 99)) {
		t.Errorf("%x..., %v", buf[:8], err)
	}
}

// TestFilesOutside maps a path that would leave the root that was given.
func TestFilesOutside(t *testing.T) {
	v := newVictim(t)
	v.path = "/../../.." + v.path
	_, got, err := v.text(t, &usercore.Options{Files: true, Root: v.root})
	if !bytes.Equal(got, v.file[page:2*page]) {
		t.Errorf("%d bytes, %v; the path did not stay below the root", len(got), err)
	}
}
