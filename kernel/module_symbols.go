// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"iter"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// moduleSymbols gives the symbols that are not of the kernel's own table, in the order of
// /proc/kallsyms: those of modules, of BPF programs as of a module "bpf", and of the pages
// of code that ftrace and kprobes make. A module whose symbols cannot be read is an
// error, and those of the others follow.
func (k *Kernel) moduleSymbols(ctx context.Context) iter.Seq2[sym.Symbol, error] {
	return func(yield func(sym.Symbol, error) bool) {
		f, err := k.modules.do(ctx, k.findModuleFields)
		if err != nil {
			yield(sym.Symbol{}, err)
			return
		}
		for m, err := range k.Modules(ctx) {
			if err != nil {
				if !yield(sym.Symbol{}, err) {
					return
				}
				break
			}
			s := &moduleTable{k: k, m: m, f: f, r: k.reader(ctx)}
			if !s.each(yield) {
				return
			}
			if s.r.err != nil && !yield(sym.Symbol{}, fmt.Errorf("the symbols of the module %q: %w", m.Name, s.r.err)) || ctx.Err() != nil {
				return
			}
		}
		for _, made := range []func(context.Context, func(sym.Symbol) bool) error{k.ftraceModuleSymbols, k.ftraceSymbols, k.bpfSymbols, k.kprobeSymbols} {
			ended := false
			err := made(ctx, func(s sym.Symbol) bool {
				ended = !yield(s, nil)
				return !ended
			})
			if ended || err != nil && !yield(sym.Symbol{}, err) {
				return
			}
		}
	}
}

// moduleTable reads the table of symbols of a module (struct mod_kallsyms). It is an
// array of Elf64_Sym, without those that are of no use, and the letter of each in an
// array of its own: since 5.2, before that it is in st_info.
type moduleTable struct {
	k *Kernel
	m *Module
	f *moduleFields
	r *reader

	names   []byte // of the strings
	namesAt remora.Addr
	exports map[uint64][]remora.Addr // where the names of what is exported are, by its address
}

const (
	elfSym           = 24      // bytes
	maxModuleSymbols = 1 << 22 // that a module is believed to have
	moduleChunk      = 4096    // symbols that are read at a time
	maxKsymName      = 512     // KSYM_NAME_LEN, with the NUL
	maxModuleNames   = 1 << 20 // bytes of names read at a time
	maxExportNames   = 16      // that one address is exported by
)

// each gives the symbols. It is false when yield has ended it.
func (s *moduleTable) each(yield func(sym.Symbol, error) bool) bool {
	if !s.f.kallsyms.has() || !s.f.symtab.has() || !s.f.count.has() || !s.f.strtab.has() {
		return true // CONFIG_KALLSYMS=n
	}
	at := remora.Addr(at64(s.m.raw, s.f.kallsyms))
	symtab, strtab := s.r.ptr(at, s.f.symtab), s.r.ptr(at, s.f.strtab)
	n := s.r.uint(at, s.f.count)
	typetab := remora.Addr(0)
	if s.f.typetab.has() {
		typetab = s.r.ptr(at, s.f.typetab)
	}
	if s.r.err == nil && n > maxModuleSymbols {
		s.r.err = fmt.Errorf("%s: %d symbols: %w", s.k.info.Name, n, remora.ErrCorrupt)
	}
	s.readExports()
	for first := uint64(0); first < n && s.r.err == nil; first += moduleChunk {
		count := min(n-first, moduleChunk)
		table, letters := make([]byte, count*elfSym), make([]byte, count)
		s.r.bytes(symtab+remora.Addr(first*elfSym), table)
		if typetab != 0 {
			s.r.bytes(typetab+remora.Addr(first), letters)
		}
		if s.r.err != nil {
			return true
		}
		s.readNames(strtab, table)
		for i := range count {
			e := table[i*elfSym:]
			name := s.name(strtab + remora.Addr(binary.LittleEndian.Uint32(e)))
			if name == "" || s.r.err != nil {
				continue
			}
			found := sym.Symbol{Addr: remora.Addr(binary.LittleEndian.Uint64(e[8:])), Size: binary.LittleEndian.Uint64(e[16:]), Name: name, Type: letters[i], Module: s.m.Name}
			if typetab == 0 {
				found.Type = e[4]
			}
			found.Type = s.letter(found)
			if !yield(found, nil) {
				return false
			}
		}
	}
	return true
}

// letter makes the letter large of what is exported, and small of all else.
func (s *moduleTable) letter(f sym.Symbol) byte {
	if f.Type >= 'A' && f.Type <= 'Z' {
		f.Type += 'a' - 'A'
	}
	if f.Type < 'a' || f.Type > 'z' {
		return f.Type
	}
	for _, at := range s.exports[uint64(f.Addr)] {
		if s.k.textAt(s.r, at, maxKsymName) == f.Name {
			return f.Type - ('a' - 'A')
		}
	}
	return f.Type
}

// readNames reads the strings that the symbols of a table have, if they lie together.
func (s *moduleTable) readNames(strtab remora.Addr, table []byte) {
	first, last := uint32(1<<32-1), uint32(0)
	for e := table; len(e) > 0; e = e[elfSym:] {
		n := binary.LittleEndian.Uint32(e)
		first, last = min(first, n), max(last, n)
	}
	s.names = s.names[:0]
	if last-first > maxModuleNames {
		return
	}
	s.namesAt = strtab + remora.Addr(first)
	s.names = resize(s.names, uint64(last-first)+maxKsymName)
	n, _ := s.k.mem.ReadAt(s.r.ctx, s.names, s.namesAt) // the last one may be near the end of memory
	s.names = s.names[:n]
}

// name gives the string at an address.
func (s *moduleTable) name(at remora.Addr) string {
	if off := uint64(at - s.namesAt); off < uint64(len(s.names)) {
		b := s.names[off:min(uint64(len(s.names)), off+maxKsymName)]
		for i, c := range b {
			if c == 0 {
				return string(b[:i])
			}
		}
		if len(b) == maxKsymName {
			return string(b[:maxKsymName-1])
		}
	}
	return s.k.textAt(s.r, at, maxKsymName)
}

// readExports reads what the module exports (struct kernel_symbol), where the kernel
// says of each symbol whether it is (is_exported in kernel/module/main.c).
func (s *moduleTable) readExports() {
	f := s.f
	if !f.syms.has() || !f.numSyms.has() || f.exportSize == 0 {
		return
	}
	at, n := remora.Addr(at64(s.m.raw, f.syms)), at64(s.m.raw, f.numSyms)
	if n > maxModuleSymbols || n == 0 || at == 0 {
		return
	}
	s.exports = map[uint64][]remora.Addr{}
	var b []byte
	for i := uint64(0); i < n && s.r.err == nil; i++ {
		if len(b) == 0 {
			b = make([]byte, min(n-i, moduleChunk)*f.exportSize)
			s.r.bytes(at, b)
		}
		var value, name remora.Addr
		if f.exportRel.has() { // CONFIG_HAVE_ARCH_PREL32_RELOCATIONS
			value = at + remora.Addr(f.exportRel.off+at64(b, f.exportRel))
			name = at + remora.Addr(f.exportNameRel.off+at64(b, f.exportNameRel))
		} else {
			value, name = remora.Addr(at64(b, f.exportAbs)), remora.Addr(at64(b, f.exportName))
		}
		if names := s.exports[uint64(value)]; len(names) < maxExportNames {
			s.exports[uint64(value)] = append(names, name)
		}
		b, at = b[f.exportSize:], at+remora.Addr(f.exportSize)
	}
}

// textAt reads a string that ends with a NUL, of at most limit bytes with it.
func (k *Kernel) textAt(r *reader, at remora.Addr, limit int) string {
	if r.err != nil {
		return ""
	}
	var text string
	text, r.err = k.mem.CString(r.ctx, at, limit)
	return text
}
