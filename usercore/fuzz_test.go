// SPDX-License-Identifier: Apache-2.0

package usercore_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"runtime"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/usercore"
)

// seeds are small cores of all shapes and makers, whole and damaged.
func seeds() [][]byte {
	var all [][]byte
	for _, shape := range shapes {
		c := kernelCore(shape)
		c.PageAlign = false
		for i := range c.Loads {
			if l := &c.Loads[i]; l.Data != nil {
				l.Mem = max(l.Mem, uint64(len(l.Data)))
				l.Data = l.Data[:40]
			}
		}
		b := c.Bytes()
		all = append(all, b, b[:len(b)-60], b[:len(b)/2])
		c.Loads[1].Lie, c.Loads[1].Off, c.Loads[1].Filesz = true, 1<<31, 0x800
		c.Notes = append(c.Notes, testimage.Note{Name: "GDB", Type: 1})
		all = append(all, c.Bytes())
	}
	d := delveCore()
	v := victimFile([]byte{1, 2, 3, 4})
	mapped := kernelCore(testimage.Core{})
	mapped.PageAlign = false
	mapped.Loads = []testimage.Load{{Addr: 0x10000, Data: v[:600], Mem: page}}
	return append(all, d.Bytes(), mapped.Bytes(), v[:600], nil)
}

// FuzzOpen opens anything as a core. What opens is read at every border, byte by
// byte and in one piece, and both must tell the same; what was allocated must be
// in proportion to the file.
func FuzzOpen(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	root := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, err := usercore.New(bytes.NewReader(b), int64(len(b)), "fuzz", &usercore.Options{Files: true, Root: root})
		if err == nil {
			decodeAll(t, c)
		}
		runtime.ReadMemStats(&after)
		if n, limit := after.TotalAlloc-before.TotalAlloc, uint64(4<<20+100*len(b)); n > limit {
			t.Errorf("%d bytes allocated for a file of %d", n, len(b))
		}
		if err != nil {
			if bad, ok := errors.AsType[*remora.FormatError](err); !ok || bad.File != "fuzz" || bad.Want == "" || bad.Got == "" || bad.Offset < 0 {
				t.Errorf("not a whole FormatError: %v", err)
			}
			return
		}
		defer c.Close()
		checkRegions(t, c)
		checkMemory(t, c, b)
	})
}

// decodeAll asks for all that a core can tell, but for its memory.
func decodeAll(t *testing.T, c *usercore.Core) {
	if _, err := c.Describe(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := c.Threads(); err != nil {
		t.Error(err)
	}
	for i, n := range c.Notes() {
		if b, err := c.NoteData(n); i < 100 && err == nil && len(b) != int(n.Size) {
			t.Errorf("note %d: %d bytes of %d", i, len(b), n.Size)
		}
		if i == 1000 {
			break
		}
	}
}

// checkRegions wants regions in order, none empty, no two over one address.
func checkRegions(t *testing.T, c *usercore.Core) {
	var last remora.Region
	for r, err := range c.Regions(context.Background()) {
		if err != nil || r.Empty() || r.Last() < r.Start || !last.Empty() && r.Start <= last.Last() || r.Last() > c.Info().Last {
			t.Fatalf("%v after %v, %v", r.Range, last.Range, err)
		}
		last = r
	}
}

// checkMemory reads around the borders of the regions and at both ends of the space.
func checkMemory(t *testing.T, c *usercore.Core, b []byte) {
	f, err := elfcore.Read(bytes.NewReader(b), int64(len(b)), "fuzz")
	if err != nil {
		t.Fatal(err)
	}
	checkAround(t, c, f, b, 0)
	checkAround(t, c, f, b, c.Info().Last)
	count := 0
	for r := range c.Regions(context.Background()) {
		checkAround(t, c, f, b, r.Start)
		checkAround(t, c, f, b, r.Last())
		checkAround(t, c, f, b, r.Start+(r.Last()-r.Start)/2)
		if count++; count == 50 {
			break
		}
	}
	for i := range f.Progs {
		if p := &f.Progs[i]; p.Type == elf.PT_LOAD && i < 50 {
			checkAround(t, c, f, b, remora.Addr(p.Vaddr+f.Saved(p)))
		}
	}
}

// checkAround reads a few bytes before and behind a.
func checkAround(t *testing.T, c *usercore.Core, f *elfcore.File, b []byte, a remora.Addr) {
	const half = 5
	a -= half
	var buf [2*half + 1]byte
	segs := []remora.Seg{{Addr: a, Buf: buf[:]}}
	_, err := c.Transfer(context.Background(), remora.Read, segs)
	n := segs[0].N
	if n < 0 || n > len(buf) || (n == len(buf)) != (err == nil) || err != segs[0].Err {
		t.Fatalf("%v: %d bytes, %v", a, n, err)
	}
	for i := range n + 1 {
		at := a + remora.Addr(i)
		var one [1]byte
		k, oneErr := c.Memory().ReadAt(context.Background(), one[:], at)
		switch want, there := byteAt(f, b, at); {
		case i == len(buf) || at < a:
		case i == n && (k != 0 || !errors.Is(oneErr, err)):
			t.Fatalf("%v: stopped with %v; the byte alone: %d, %v", at, err, k, oneErr)
		case i < n && (k != 1 || one[0] != buf[i]):
			t.Fatalf("%v: %#x; the byte alone: %d, %#x, %v", at, buf[i], k, one[0], oneErr)
		case there != (k == 1) || there && one[0] != want:
			t.Fatalf("%v: %d, %#x, %v; the file holds %#x, %v", at, k, one[0], oneErr, want, there)
		}
	}
	if err != nil && !errors.Is(err, remora.ErrFault) {
		t.Fatalf("%v: %v", a, err)
	}
}

// byteAt looks a byte of memory up in the program headers.
func byteAt(f *elfcore.File, b []byte, a remora.Addr) (byte, bool) {
	for i := range f.Progs {
		if p := &f.Progs[i]; p.Type == elf.PT_LOAD && uint64(a)-p.Vaddr < f.Saved(p) && uint64(a) >= p.Vaddr {
			return b[p.Off+uint64(a)-p.Vaddr], true
		}
	}
	return 0, false
}

// TestNotesTwice has many note segments that are all the same bytes of the file:
// what is kept must not grow with their number.
func TestNotesTwice(t *testing.T) {
	c := kernelCore(testimage.Core{})
	for range 5000 {
		c.Notes = append(c.Notes, testimage.Note{Name: "LINUX", Type: 1})
	}
	for range 500 {
		c.Loads = append(c.Loads, testimage.Load{Null: true})
	}
	b := c.Bytes()
	order := c.Order()
	notes := b[64 : 64+56]
	for i := range 500 {
		copy(b[64+56*(1+6+i):], notes)
	}
	if order.Uint32(notes) != uint32(elf.PT_NOTE) {
		t.Fatal("the first header is not that of the notes")
	}
	core := open(t, b)
	if n := len(core.Notes()); n < len(c.Notes) || n > len(b)/12 {
		t.Errorf("%d notes in %d bytes", n, len(b))
	}
	if s := facts(t, core); !bytes.Contains([]byte(s), []byte("overlap")) {
		t.Error(s)
	}
}
