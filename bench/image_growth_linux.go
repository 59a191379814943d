// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"

	"github.com/remora-go/remora/bench/internal/measure"
)

// growth is how much more work the rows of a series are.
var growth = [...]int{1, 4, 16}

// lists are files of what the rows of a series read.
type lists struct {
	bytes, words [len(growth)]string
	sized        [len(growth)]string // images of so many GiB, of zeros
}

// grow writes the lists, and the images.
func (b *images) grow(l *lister) error {
	for i, n := range growth {
		b.lists.bytes[i] = l.list(fmt.Sprint("bytes", n), b.content.spread(n), request)
		b.lists.words[i] = l.list(fmt.Sprint("words", n), b.content.scatter(1024*n), wordSize)
		b.lists.sized[i] = filepath.Join(l.dir, fmt.Sprint("image", n))
		if err := writeZeros(b.lists.sized[i], int64(n)<<30); err != nil {
			return err
		}
	}
	return l.err
}

// writeZeros writes an ELF image of so many bytes of zeros, which take no place.
func writeZeros(path string, size int64) error {
	const head, prog, page = 64, 56, 4096
	var text bytes.Buffer
	e := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: head, Ehsize: head, Phentsize: prog, Phnum: 1}
	copy(e.Ident[:], elf.ELFMAG+string([]byte{byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}))
	load := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R), Off: page, Filesz: uint64(size), Memsz: uint64(size)}
	for _, part := range []any{e, load} {
		if err := binary.Write(&text, binary.LittleEndian, part); err != nil {
			return err
		}
	}
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Truncate(path, page+size)
}

// growthRows do 1, 4 and 16 times the work.
func (b *images) growthRows() []measure.Row {
	var rows []measure.Row
	for i, n := range growth {
		for threads := 1; threads <= 2; threads++ {
			for _, m := range []*image{b.elf, b.zlib} {
				rows = append(rows, measure.Row{
					Name:   fmt.Sprintf("%d MiB, %s, threads: %d", n*stretch>>20, m.name, threads),
					Work:   "stretches of 8 MiB of physical memory are read, 1 MiB a call",
					Series: fmt.Sprintf("bytes of an image, %s, threads: %d", m.name, threads), X: float64(n * stretch),
					Bytes: int64(n * stretch), Wide: threads > 1,
					Sides: []measure.Side{
						b.in("Image.Transfer", "seq %s %s %d", m.path, b.lists.bytes[i], threads),
						b.kdump("kdump_read, with a clone for each other thread", "seq %s %s %d", m.path, b.lists.bytes[i], threads),
					},
				})
			}
		}
		rows = append(rows, measure.Row{
			Name:   fmt.Sprintf("%d words, ELF", 1024*n),
			Work:   "words at random places in physical memory are read, all in one call where that can be",
			Series: "words of an image, ELF", X: float64(1024 * n),
			Sides: []measure.Side{
				b.in("Image.Transfer", "words %s %s %d %d", b.elf.path, b.lists.words[i], 1024*n, cacheMiB),
				b.kdump("kdump_read", "words %s %s 0", b.elf.path, b.lists.words[i]),
			},
		}, measure.Row{
			Name:   fmt.Sprintf("open and 8 bytes, ELF of %d GiB", n),
			Work:   "an image is opened, 8 bytes of physical memory are read, and it is closed",
			Series: "bytes of an image that are not read, ELF", X: float64(n << 30),
			Sides: []measure.Side{
				b.in("vmcore.Open, Memory.ReadAt", "open %s 0x1000", b.lists.sized[i]),
				b.kdump("kdump_open_fd, kdump_read", "open %s 0x1000", b.lists.sized[i]),
			},
		})
	}
	return rows
}
