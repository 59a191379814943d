// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
)

// asVmcore writes the ELF image that QEMU made of a guest again with the addresses of
// the kernel's direct map, as the kernel's own /proc/vmcore has them. QEMU leaves them
// 0, and makedumpfile 1.7 takes that for the truth. The kernel's image, which
// /proc/vmcore has in a segment of its own, is in no other than its RAM here:
// makedumpfile would count those pages twice.
func asVmcore(from, to string, truth *Truth) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := elf.NewFile(in)
	if err != nil {
		return err
	}
	var notes []byte
	var loads []elf.ProgHeader
	for _, p := range f.Progs {
		switch p.Type {
		case elf.PT_NOTE:
			if notes, err = io.ReadAll(p.Open()); err != nil {
				return err
			}
		case elf.PT_LOAD:
			loads = append(loads, p.ProgHeader)
		}
	}
	loads = withAddresses(loads, truth)
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer out.Close()
	return writeVmcore(out, in, notes, loads)
}

// withAddresses sets where the kernel has each segment. What it does not have, as the
// firmware's ROM below 4 GiB, is left out.
func withAddresses(loads []elf.ProgHeader, truth *Truth) []elf.ProgHeader {
	var all []elf.ProgHeader
	for _, l := range loads {
		const page = 4096 // kcore leaves out page 0
		if va, ok := truth.DirectMap(l.Paddr + page); ok {
			l.Vaddr = va - page
			all = append(all, l)
		}
	}
	return all
}

// writeVmcore writes headers, notes and memory.
func writeVmcore(out io.WriteSeeker, in io.ReaderAt, notes []byte, loads []elf.ProgHeader) error {
	const headSize, progSize, page = 64, 56, 4096
	le := binary.LittleEndian
	notesAt := uint64(headSize + progSize*(len(loads)+1))
	at := (notesAt + uint64(len(notes)) + page - 1) &^ (page - 1)
	var head bytes.Buffer
	e := elf.Header64{Type: uint16(elf.ET_CORE), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: headSize,
		Ehsize: headSize, Phentsize: progSize, Phnum: uint16(len(loads) + 1)}
	copy(e.Ident[:], elf.ELFMAG+string([]byte{byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)}))
	binary.Write(&head, le, e)
	binary.Write(&head, le, elf.Prog64{Type: uint32(elf.PT_NOTE), Off: notesAt, Filesz: uint64(len(notes)), Memsz: uint64(len(notes))})
	for _, l := range loads {
		moved := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W | elf.PF_X), Off: at,
			Vaddr: l.Vaddr, Paddr: l.Paddr, Filesz: l.Filesz, Memsz: l.Memsz}
		binary.Write(&head, le, moved)
		if _, err := out.Seek(int64(at), io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(out, io.NewSectionReader(in, int64(l.Off), int64(l.Filesz))); err != nil {
			return err
		}
		at = (at + l.Filesz + page - 1) &^ (page - 1)
	}
	head.Write(notes)
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err := out.Write(head.Bytes())
	return err
}
