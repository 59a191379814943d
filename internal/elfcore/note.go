// SPDX-License-Identifier: Apache-2.0

package elfcore

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"iter"

	"github.com/remora-go/remora"
)

// The limits of what is taken for a note.
const (
	MaxNotes = 1 << 20 // in one segment
	maxOwner = 256     // bytes of a name
	maxBuild = 64      // bytes of a build id; SHA-1 gives 20
)

// Note is one note: who defined its type, and where its descriptor lies.
type Note struct {
	Owner string // the name without its NULs: "CORE", "LINUX", "GNU"
	Type  uint32
	Off   int64 // of the descriptor in the file
	Size  uint32
}

// Notes gives the notes of a PT_NOTE segment in order. It stops at the first that
// is damaged or cut off, with an error.
//
// Names and descriptors are padded to 4 bytes, in 64-bit files too, whatever the
// gABI says: kernels and debuggers all do so. A segment of p_align 8 is padded to
// 8 (GNU property notes are), unless it only makes sense with 4.
func (f *File) Notes(p *Prog) iter.Seq2[Note, error] {
	return func(yield func(Note, error) bool) {
		align := uint64(4)
		if p.Align == 8 && f.walk(p, 8, func(Note) bool { return true }) == nil {
			align = 8
		}
		stopped := false
		err := f.walk(p, align, func(n Note) bool {
			stopped = !yield(n, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(Note{}, err)
		}
	}
}

// NotesIn gives the notes in b, which lies at off of the file called name, as File.Notes
// does: for files that keep the notes of an ELF file and nothing else of it.
func NotesIn(b []byte, off int64, order binary.ByteOrder, name string) iter.Seq2[Note, error] {
	f := &File{Name: name, Size: off + int64(len(b)), r: part{b, off}, order: order}
	return f.Notes(&Prog{Off: uint64(off), Filesz: uint64(len(b))})
}

// part is the bytes of a file from off on, as an io.ReaderAt.
type part struct {
	b   []byte
	off int64
}

func (p part) ReadAt(b []byte, off int64) (int, error) {
	n := copy(b, p.b[off-p.off:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

// walk calls each for every note that is whole.
func (f *File) walk(p *Prog, align uint64, each func(Note) bool) error {
	w := window{f: f}
	saved := f.Saved(p)
	cut := func(at uint64, want string) error {
		off := int64(min(p.Off, uint64(f.Size)) + at)
		if saved < p.Filesz {
			return f.bad(off, remora.ErrTruncated, want, fmt.Sprintf("the end of the file at 0x%x", f.Size))
		}
		return f.bad(off, remora.ErrCorrupt, want, fmt.Sprintf("the end of the notes at 0x%x", p.Off+p.Filesz))
	}
	at, owner := uint64(0), ""
	for count := 0; ; count++ {
		left := saved - min(at, saved)
		if left < 12 {
			return f.tail(p, at, left, saved, cut)
		}
		if count == MaxNotes {
			return f.bad(int64(p.Off+at), remora.ErrCorrupt, fmt.Sprintf("at most %d notes", MaxNotes), "more")
		}
		b, err := w.at(p.Off+at, 12, "a note")
		if err != nil {
			return err
		}
		namesz, descsz := uint64(f.order.Uint32(b)), uint64(f.order.Uint32(b[4:]))
		n := Note{Type: f.order.Uint32(b[8:]), Size: uint32(descsz)}
		desc := roundUp(12+namesz, align)
		if namesz > left-12 || desc > left && descsz > 0 || descsz > left-min(desc, left) {
			return cut(at, fmt.Sprintf("a note with a name of %d and a descriptor of %d bytes", namesz, descsz))
		}
		if namesz > maxOwner {
			return f.bad(int64(p.Off+at), remora.ErrCorrupt, fmt.Sprintf("a note's name of at most %d bytes", maxOwner), fmt.Sprintf("%d", namesz))
		}
		if b, err = w.at(p.Off+at+12, int(namesz), "a note's name"); err != nil {
			return err
		}
		for len(b) > 0 && b[len(b)-1] == 0 {
			b = b[:len(b)-1]
		}
		if owner != string(b) {
			owner = string(b)
		}
		n.Owner, n.Off = owner, int64(p.Off+at+desc)
		if !each(n) {
			return nil
		}
		at += roundUp(desc+descsz, align)
	}
}

// tail judges what is left behind the last note: padding, or a note cut short.
func (f *File) tail(p *Prog, at, left, saved uint64, cut func(uint64, string) error) error {
	if saved < p.Filesz {
		return cut(min(at, saved), "a note")
	}
	if left == 0 {
		return nil
	}
	var rest [12]byte
	if err := f.read(rest[:left], int64(p.Off+at), "padding"); err != nil {
		return err
	}
	for _, c := range rest[:left] {
		if c != 0 {
			return cut(at, "a note")
		}
	}
	return nil
}

func roundUp(n, align uint64) uint64 { return (n + align - 1) &^ (align - 1) }

// window reads small pieces at rising offsets through one buffer.
type window struct {
	f   *File
	off uint64
	buf []byte
}

const windowSize = 32 << 10

// at gives n bytes, at most maxOwner, at off. They hold until the next call.
func (w *window) at(off uint64, n int, want string) ([]byte, error) {
	if off < w.off || off+uint64(n) > w.off+uint64(len(w.buf)) {
		size := min(windowSize, uint64(w.f.Size)-min(off, uint64(w.f.Size)))
		if uint64(cap(w.buf)) < size {
			w.buf = make([]byte, size)
		}
		got, err := w.f.readSome(w.buf[:size], n, int64(off), want)
		if w.off, w.buf = off, w.buf[:got]; err != nil {
			return nil, err
		}
	}
	b := w.buf[off-w.off:]
	return b[:n:n], nil
}

// Desc reads the descriptor of a note, which must be at most limit bytes long.
func (f *File) Desc(n Note, limit uint32) ([]byte, error) {
	if n.Size > limit {
		return nil, f.bad(n.Off, remora.ErrCorrupt, fmt.Sprintf("a descriptor of at most %d bytes", limit), fmt.Sprintf("%d", n.Size))
	}
	if n.Off < 0 || n.Off > f.Size || int64(n.Size) > f.Size-n.Off {
		return nil, f.read(make([]byte, 1), f.Size, "a note's descriptor")
	}
	b := make([]byte, n.Size)
	return b, f.read(b, n.Off, "a note's descriptor")
}

// BuildID finds the GNU build id (note 3 of "GNU") of an executable or library.
// An error says why there is none.
func (f *File) BuildID() ([]byte, error) {
	const ntGNUBuildID = 3
	var first error
	for i := range f.Progs {
		p := &f.Progs[i]
		if p.Type != elf.PT_NOTE {
			continue
		}
		for n, err := range f.Notes(p) {
			if err != nil {
				if first == nil {
					first = err
				}
				break
			}
			if n.Owner == "GNU" && n.Type == ntGNUBuildID && n.Size > 0 {
				return f.Desc(n, maxBuild)
			}
		}
	}
	if first == nil {
		first = f.bad(f.ProgOff, remora.ErrFault, "a build id", "none")
	}
	return nil, first
}
