// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"encoding/binary"
	"fmt"
)

// Field is an integer in a file.
type Field struct {
	Name      string // as the structures of its makers have it
	Off       int64  // in the file
	Size      int    // in bytes
	Value     uint64 // as it was written
	BigEndian bool
}

// bytes gives the low Size bytes of v.
func (f *Field) bytes(v uint64) []byte {
	if !f.BigEndian {
		return binary.LittleEndian.AppendUint64(nil, v)[:f.Size]
	}
	return binary.BigEndian.AppendUint64(nil, v)[8-f.Size:]
}

// Set gives a copy of the file in which the field is v.
func (f *Field) Set(file []byte, v uint64) []byte {
	b := append([]byte(nil), file...)
	copy(b[f.Off:], f.bytes(v))
	return b
}

// Hostile gives values that a reader had better not trust: around zero, around
// what the field was, and around the powers of two where sums and products break.
func (f *Field) Hostile() []uint64 {
	top := uint64(1)<<(8*f.Size-1)<<1 - 1
	all := []uint64{0, 1, 2, 3, 7, f.Value - 1, f.Value + 1, f.Value / 2, f.Value * 2, 1 << 12, 1 << 16}
	if f.Size >= 4 {
		all = append(all, 1<<20, 1<<24, 1<<31-1, 1<<31)
	}
	if f.Size == 8 {
		all = append(all, 1<<32-1, 1<<32, 1<<40, 1<<47, 1<<52, 1<<60, 1<<61, 1<<62, 1<<63-1, 1<<63-4096, 1<<63)
	}
	all = append(all, top/2, top/2+1, top-4096, top-4095, top-24, top-7, top-1, top)
	for i := range all {
		all[i] &= top
	}
	return all
}

// ELFFields gives the integers of the header and the program headers of an ELF
// file, which is a sound one.
func ELFFields(b []byte) []Field {
	narrow, big := b[4] == 1, b[5] == 2
	r := fieldReader{file: b, at: 16, word: 8, big: big}
	if narrow {
		r.word = 4
	}
	r.read(2, "e_type", "e_machine")
	r.read(4, "e_version")
	r.read(r.word, "e_entry", "e_phoff", "e_shoff")
	r.read(4, "e_flags")
	r.read(2, "e_ehsize", "e_phentsize", "e_phnum", "e_shentsize", "e_shnum", "e_shstrndx")
	phoff, count, shoff := r.value("e_phoff"), r.value("e_phnum"), r.value("e_shoff")
	if count == 0xffff && shoff != 0 {
		r.at = int64(shoff)
		r.read(4, "sh_name", "sh_type")
		r.read(r.word, "sh_flags", "sh_addr", "sh_offset", "sh_size")
		r.read(4, "sh_link", "sh_info")
		count = r.value("sh_info")
	}
	r.at = int64(phoff)
	for i := range count {
		r.prefix = fmt.Sprintf("%d.", i)
		if narrow {
			r.read(4, "p_type", "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_flags", "p_align")
			continue
		}
		r.read(4, "p_type", "p_flags")
		r.read(8, "p_offset", "p_vaddr", "p_paddr", "p_filesz", "p_memsz", "p_align")
	}
	return r.fields
}

// LiMEFields gives the integers of the headers of a LiME file, which is a sound one.
func LiMEFields(b []byte) []Field {
	r := fieldReader{file: b}
	for i := 0; r.at < int64(len(b)); i++ {
		r.prefix = fmt.Sprintf("%d.", i)
		r.read(4, "magic", "version")
		r.read(8, "s_addr", "e_addr", "reserved")
		if n := len(r.fields); r.fields[n-5].Value == MagicLiME {
			r.at += int64(r.fields[n-2].Value - r.fields[n-3].Value + 1)
			continue
		}
		break // a packed range says its length behind it
	}
	return r.fields
}

// fieldReader lists integers that follow each other.
type fieldReader struct {
	file   []byte
	at     int64
	word   int
	big    bool
	prefix string // of the names
	fields []Field
}

func (r *fieldReader) read(size int, names ...string) {
	for _, name := range names {
		b := make([]byte, 8)
		f := Field{Name: r.prefix + name, Off: r.at, Size: size, BigEndian: r.big}
		if r.big {
			copy(b[8-size:], r.file[r.at:][:size])
			f.Value = binary.BigEndian.Uint64(b)
		} else {
			copy(b, r.file[r.at:][:size])
			f.Value = binary.LittleEndian.Uint64(b)
		}
		r.fields = append(r.fields, f)
		r.at += int64(size)
	}
}

// value gives the value of the latest field of a name.
func (r *fieldReader) value(name string) uint64 {
	for i := len(r.fields) - 1; ; i-- {
		if r.fields[i].Name == name {
			return r.fields[i].Value
		}
	}
}
