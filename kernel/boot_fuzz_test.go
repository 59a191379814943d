// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

// content are the bytes of the tables of kallsyms in a layout.
func content(l [2]string) (b []byte) {
	m := newMachine(testimage.TableModes()[0])
	m.tell(l[0], l[1], true)
	for pfn := (m.load + atTables) >> 12; ; pfn++ {
		page, class := m.mem.Page(pfn)
		if class == testimage.Hole {
			return b
		}
		b = append(b, page...)
	}
}

// FuzzContent looks for a kernel in what is like one, with some bytes changed: each by four
// bytes of patch, where it is and what it becomes.
func FuzzContent(f *testing.F) {
	var all [][]byte
	for i, l := range layouts {
		all = append(all, content(l))
		f.Add(uint8(i), []byte{0, 0, 0, 1})
	}
	note := testimage.Core{Notes: []testimage.Note{testimage.VMCoreInfoNote([]byte("OSRELEASE=6.1\nNUMBER(phys_base)=0\nSYMBOL(_stext)=ffffffff81000000\n"))}}
	all = append(all, note.NoteBytes(), []byte(strings.Repeat(digits, 300)))
	f.Add(uint8(len(all)-2), []byte{0, 0, 4, 0xff})
	f.Add(uint8(len(all)-1), []byte(nil))
	f.Fuzz(func(t *testing.T, which uint8, patch []byte) {
		b := slices.Clone(all[int(which)%len(all)])
		for ; len(patch) >= 4; patch = patch[4:] {
			b[(int(patch[0])<<16|int(patch[1])<<8|int(patch[2]))%len(b)] = patch[3]
		}
		s := memtest.NewSparse(nil)
		size := uint64(len(b)+0x1fff) &^ 0xfff
		if err := s.Map(remora.Range{Start: 0x100000, Size: size}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
			t.Fatal(err)
		}
		if err := s.Poke(b, 0x100000); err != nil {
			t.Fatal(err)
		}
		if found, err := find(t.Context(), s, &Hints{}, nil); err != nil && !errors.Is(err, remora.ErrNoTable) || err == nil && len(found.Checked) == 0 {
			t.Errorf("%+v, %v", found, err)
		}
		_, _ = sweep(t.Context(), s, remora.Range{Size: 1 << 63}, traces, func(x trace) bool {
			if x.note {
				return true
			}
			if k, err := findKallsyms(t.Context(), s, x.at); err == nil {
				if _, err := k.firsts(t.Context(), "_stext", "linux_banner"); err != nil && errors.Is(err, remora.ErrUnmapped) {
					t.Errorf("%+v: %v", k.kallsymsAt, err)
				}
			}
			return true
		})
	})
}

// Memory full of what looks like something takes no longer for it than it must.
func TestBootOfMemoryFullOfDigits(t *testing.T) {
	const size = 32 << 20
	s := memtest.NewSparse(nil)
	if err := s.Map(remora.Range{Size: size}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
		t.Fatal(err)
	}
	// Tokens with an index, over and over, and behind them what markers may be.
	tables := content(layouts[3])
	at := strings.Index(string(tables), digits)
	page := make([]byte, 8192)
	for i := 0; i < 4096; i += 4 {
		binary.LittleEndian.PutUint32(page[i:], uint32(600*(i/4)))
	}
	copy(page[4096:], tables[at-0x100:])
	for a := remora.Addr(0); a < size; a += 8192 {
		if err := s.Poke(page, a); err != nil {
			t.Fatal(err)
		}
	}
	_, err := find(t.Context(), s, &Hints{}, nil)
	if !errors.Is(err, remora.ErrNoTable) {
		t.Errorf("got %v", err)
	}
}
