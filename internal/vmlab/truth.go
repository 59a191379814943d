// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"archive/tar"
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/remora-go/remora/internal/vmlab/witness"
)

// Truth is what the guest said of itself just before it was stopped: files, by their
// names in the guest without the leading slash, and the guest's own "witnesses.json",
// "kmsg" and "dmesg" (its log as records and as text), "kcore.head" (the headers of
// /proc/kcore) and "pages/PID" (see Pages).
type Truth struct {
	Files     map[string][]byte
	Witnesses []witness.Report
}

// readTruth reads the archive that the guest wrote.
func readTruth(name string) (*Truth, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t := &Truth{Files: map[string][]byte{}}
	in := tar.NewReader(bufio.NewReaderSize(f, 1<<20))
	for {
		h, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if t.Files[h.Name], err = io.ReadAll(in); err != nil {
			return nil, fmt.Errorf("%s: %s: %w", name, h.Name, err)
		}
	}
	return t, json.Unmarshal(t.Files["witnesses.json"], &t.Witnesses)
}

// File gives a file by its name in the guest, without the leading slash; nil if it was
// not there.
func (t *Truth) File(format string, args ...any) []byte {
	return t.Files[fmt.Sprintf(format, args...)]
}

// Witness gives the report of the witness of a role.
func (t *Truth) Witness(role string) *witness.Report {
	for i := range t.Witnesses {
		if t.Witnesses[i].Role == role {
			return &t.Witnesses[i]
		}
	}
	return &witness.Report{}
}

// Symbol is a line of /proc/kallsyms.
type Symbol struct {
	Addr   uint64
	Type   byte
	Name   string
	Module string // "" for the kernel's own
}

// Symbols gives /proc/kallsyms.
func (t *Truth) Symbols() []Symbol {
	var all []Symbol
	for line := range strings.Lines(string(t.Files["proc/kallsyms"])) {
		f := strings.Fields(line)
		if len(f) < 3 {
			continue
		}
		addr, err := strconv.ParseUint(f[0], 16, 64)
		if err != nil {
			continue
		}
		s := Symbol{Addr: addr, Type: f[1][0], Name: f[2]}
		if len(f) > 3 {
			s.Module = strings.Trim(f[3], "[]")
		}
		all = append(all, s)
	}
	return all
}

// Page is what the guest said of one page of a witness's regions.
type Page struct {
	Addr    uint64
	Pagemap uint64 // its entry in /proc/PID/pagemap
	Frame   uint64 // its frame number, if Present
	Flags   uint64 // its frame's entry in /proc/kpageflags, if Present
	Count   uint64 // and in /proc/kpagecount
}

// Bits of an entry in /proc/PID/pagemap.
const (
	pagemapPresent = 1 << 63
	pagemapSwapped = 1 << 62
	pagemapFrame   = 1<<55 - 1
)

// Present says whether the page had a frame.
func (p Page) Present() bool { return p.Pagemap&pagemapPresent != 0 }

// Swap gives where in which swap area the page was, if it was.
func (p Page) Swap() (area int, slot uint64, ok bool) {
	e := p.Pagemap & pagemapFrame
	return int(e & 31), e >> 5, p.Pagemap&(pagemapPresent|pagemapSwapped) == pagemapSwapped
}

// Pages gives the pages of all regions of a witness, in the order of its report.
func (t *Truth) Pages(pid int) []Page {
	var all []Page
	for line := range strings.Lines(string(t.File("pages/%d", pid))) {
		var v [4]uint64
		for i, f := range strings.Fields(line) {
			if i < len(v) && f != "-" {
				v[i], _ = strconv.ParseUint(f, 16, 64)
			}
		}
		p := Page{Addr: v[0], Pagemap: v[1], Flags: v[2], Count: v[3]}
		if p.Present() {
			p.Frame = p.Pagemap & pagemapFrame
		}
		all = append(all, p)
	}
	return all
}

// Range is a range of virtual addresses.
type Range struct{ Start, End uint64 }

// Vmalloc gives the ranges of /proc/vmallocinfo that are mapped memory.
func (t *Truth) Vmalloc() []Range {
	var all []Range
	for line := range strings.Lines(string(t.Files["proc/vmallocinfo"])) {
		var r Range
		if n, _ := fmt.Sscanf(line, "0x%x-0x%x", &r.Start, &r.End); n == 2 && r.Start < r.End &&
			strings.Contains(line, "pages=") {
			all = append(all, r)
		}
	}
	return all
}

// DirectMap gives where the kernel has the physical address pa in its direct map: the
// largest segment of /proc/kcore that has it. The offsets in that file are beyond what
// debug/elf takes.
func (t *Truth) DirectMap(pa uint64) (va uint64, ok bool) {
	head := t.Files["kcore.head"]
	const headSize, progSize = 64, 56
	if len(head) < headSize {
		return 0, false
	}
	le := binary.LittleEndian // as every machine here
	var largest uint64
	for i := range int(le.Uint16(head[56:])) {
		at := headSize + i*progSize
		if at+progSize > len(head) {
			break
		}
		p := head[at:]
		start, from, size := le.Uint64(p[16:]), le.Uint64(p[24:]), le.Uint64(p[40:])
		if le.Uint32(p) == uint32(elf.PT_LOAD) && from <= pa && pa-from < size && size > largest {
			va, ok, largest = start+pa-from, true, size
		}
	}
	return va, ok
}

// VMCOREINFO gives the keys and values of the guest's VMCOREINFO, from the headers of
// /proc/kcore.
func (t *Truth) VMCOREINFO() map[string]string {
	head := t.Files["kcore.head"]
	_, text, ok := bytes.Cut(head, []byte("VMCOREINFO\x00\x00"))
	if !ok {
		return nil
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := all[k]; !twice {
			all[k] = v
		}
	}
	return all
}

// Translation is an answer of QEMU's gva2gpa.
type Translation struct {
	VA, PA uint64
	Mapped bool
	CPU    int // the processor asked
}

// readTranslations reads lines of an address, what it is mapped to or -, and who says so.
func readTranslations(name string) ([]Translation, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var all []Translation
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("%s: %q", name, line)
		}
		var a Translation
		if a.CPU, err = strconv.Atoi(f[2]); err != nil {
			return nil, err
		}
		if a.VA, err = strconv.ParseUint(f[0], 16, 64); err != nil {
			return nil, err
		}
		if f[1] != "-" {
			a.Mapped = true
			if a.PA, err = strconv.ParseUint(f[1], 16, 64); err != nil {
				return nil, err
			}
		}
		all = append(all, a)
	}
	return all, nil
}
