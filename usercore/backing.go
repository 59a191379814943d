// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// backing is a mapped file on disk, or why it is not used.
type backing struct {
	path   string
	reason string // not used because; empty when it is
	file   *os.File
	size   int64
	data   []remora.Range // where its writable segments are mapped: never taken from disk
}

// backed gives the extents that files on disk can stand in for: read-only parts of
// ELF files whose build id is the one that the core saved. Parts that belong to a
// writable segment are left alone even where they were read-only when the core was
// made (relocated data is): the process has changed them.
func (c *Core) backed(root string) []extent {
	c.backs = make(map[string]*backing)
	bases := make(map[string][]remora.Range)
	for i := range c.regions {
		if r := &c.regions[i]; r.file != nil && r.Offset == 0 {
			bases[r.file.name] = append(bases[r.file.name], r.Range)
		}
	}
	var list []extent
	for i := range c.regions {
		r := &c.regions[i]
		if r.file == nil {
			continue
		}
		b := c.backs[r.file.name]
		if b == nil {
			b = c.openBacking(root, r, bases[r.file.name])
			c.backs[r.file.name] = b
		}
		if b.reason != "" || b.refuses(r) != "" || r.Offset >= uint64(b.size) {
			continue
		}
		e := extent{first: r.Start, last: r.Last(), src: b.file, off: int64(r.Offset), cause: remora.ErrBeyondEOF}
		if room := uint64(b.size) - r.Offset; r.Size > room {
			e.last = e.first + remora.Addr(room-1)
		}
		list = append(list, e)
	}
	return list
}

// refuses says why r cannot be taken from the file, which is the right one.
func (b *backing) refuses(r *region) string {
	if r.Perm&remora.PermWrite != 0 {
		return "it was writable"
	}
	for _, d := range b.data {
		if !d.Intersect(r.Range).Empty() {
			return "it belongs to a writable segment of " + b.path
		}
	}
	return ""
}

// maxBases is how often one file may be mapped from its start.
const maxBases = 64

// openBacking opens the file that r is mapped from, and compares build ids. bases
// are the mappings of its first page.
func (c *Core) openBacking(root string, r *region, bases []remora.Range) *backing {
	b := &backing{path: filepath.Join(root, filepath.FromSlash(filepath.Clean("/"+r.Name)))}
	if r.Deleted {
		b.reason = r.Name + " was deleted before the core was made"
		return b
	}
	if len(bases) > maxBases {
		b.reason = r.Name + " is mapped too often"
		return b
	}
	want, err := c.savedBuildID(r.file.name, bases)
	if err != nil {
		b.reason = "the core does not tell the build id of " + r.Name + ": " + err.Error()
		return b
	}
	f, size, err := openRegular(b.path)
	if err != nil {
		b.reason = err.Error()
		return b
	}
	if b.reason = c.compare(b, f, size, want, bases); b.reason != "" {
		f.Close()
		return b
	}
	b.file, b.size = f, size
	c.own = append(c.own, f)
	return b
}

func openRegular(path string) (*os.File, int64, error) {
	st, err := os.Stat(path)
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, 0, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	if st, err = f.Stat(); err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

// compare says why f is not the file that was mapped. It notes where the writable
// segments of the right one are.
func (c *Core) compare(b *backing, f io.ReaderAt, size int64, want []byte, bases []remora.Range) string {
	disk, err := elfcore.Read(f, size, b.path)
	if err != nil {
		return err.Error()
	}
	got, err := disk.BuildID()
	if err != nil {
		return err.Error()
	}
	if !bytes.Equal(got, want) {
		return fmt.Sprintf("%s has build id %x, the mapped file had %x", b.path, got, want)
	}
	page := c.auxValue(auxPageSize)
	if page == 0 || page&(page-1) != 0 {
		page = 4096
	}
	for _, r := range bases {
		b.data = append(b.data, writable(disk, uint64(r.Start), page)...)
	}
	return ""
}

// writable gives the pages of the writable segments of an ELF file whose first
// page is mapped at base.
func writable(disk *elfcore.File, base, page uint64) []remora.Range {
	var bias uint64
	for _, p := range disk.Progs {
		if p.Type == elf.PT_LOAD && p.Off < page {
			bias = base - (p.Vaddr - p.Off)
			break
		}
	}
	var list []remora.Range
	for _, p := range disk.Progs {
		if p.Type == elf.PT_LOAD && p.Flags&elf.PF_W != 0 && p.Memsz > 0 {
			first, last := (bias+p.Vaddr)&^(page-1), (bias+p.Vaddr+p.Memsz-1)|(page-1)
			list = append(list, remora.Range{Start: remora.Addr(first), Size: last - first + 1})
		}
	}
	return list
}

// maxHead is how much of a mapped file is looked through for its build id: the
// largest page, in bytes.
const maxHead = 64 << 10

// savedBuildID finds the build id of a mapped ELF file in its first page, which
// the kernel (coredump_filter bit 4) and gdb save.
func (c *Core) savedBuildID(name string, bases []remora.Range) ([]byte, error) {
	err := errors.New("its first page is not mapped")
	for _, r := range bases {
		var f *elfcore.File
		if f, err = elfcore.Read(&image{c, r.Start}, int64(min(r.Size, maxHead)), name); err != nil {
			continue
		}
		var id []byte
		if id, err = f.BuildID(); err == nil {
			return id, nil
		}
	}
	return nil, err
}

// image reads what the core saved of a mapped file, by offset in that file.
type image struct {
	core *Core
	base remora.Addr
}

func (m *image) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		k, err := read(m.core.table, m.base+remora.Addr(off)+remora.Addr(n), p[n:], m.core.gap)
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}
