// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxSections is the largest number of sections that is taken. A machine with hundreds
// of hot-plugged modules has hundreds.
const maxSections = 1 << 16

// Section is a run of physical addresses of a guest that is memory.
type Section struct {
	First, Last uint64 // physical
	Offset      uint64 // of First in the block
	Block       string // the name of the block of memory that it is a part of; not unique
	Kind        string // "ram", "rom" or "nv-ram"
}

// ReadOnly says whether the guest cannot write it.
func (s Section) ReadOnly() bool { return strings.HasSuffix(s.Kind, "rom") }

// ParseMemory reads what "info mtree -f" prints, and gives the memory of the guest in
// the order of its addresses: the sections of the view that the address space "memory"
// has (mtree_print_flatview in QEMU's softmmu/memory.c). Devices are left out, those
// too that are read as memory ("romd", "ramd").
//
// The text is for people, and nobody promises its form: what is not understood is
// passed over, but a section of memory whose addresses make no sense is an error.
func ParseMemory(text string) ([]Section, error) {
	var all []Section
	inMemory := false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "FlatView"):
			if len(all) > 0 {
				return sorted(all)
			}
			inMemory = false
		case isMemory(line):
			inMemory = true
		case inMemory:
			s, ok, err := parseSection(line)
			if err != nil {
				return nil, err
			}
			if ok && len(all) == maxSections {
				return nil, fmt.Errorf("info mtree -f: more than %d sections", maxSections)
			}
			if ok {
				all = append(all, s)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("info mtree -f: it shows no memory: %s", excerpt(text))
	}
	return sorted(all)
}

// isMemory says whether a line names the address space that processors see.
func isMemory(line string) bool {
	rest, ok := strings.CutPrefix(line, `AS "memory"`)
	return ok && (rest == "" || rest[0] == ',')
}

// parseSection reads "START-END (prio N, KIND): NAME[ @OFFSET]...". It gives false for
// what is another line, or no memory.
func parseSection(line string) (s Section, ok bool, err error) {
	at, rest, ok := strings.Cut(line, " (prio ")
	if !ok {
		return s, false, nil
	}
	kind, name, ok := strings.Cut(rest, "): ")
	if !ok {
		return s, false, nil
	}
	if _, kind, ok = strings.Cut(kind, ", "); !ok {
		return s, false, nil
	}
	switch kind {
	case "ram", "rom", "nv-ram", "nv-rom":
	default:
		return s, false, nil
	}
	s.Kind = kind
	first, last, ok := strings.Cut(at, "-")
	var err1, err2 error
	s.First, err1 = strconv.ParseUint(first, 16, 64)
	s.Last, err2 = strconv.ParseUint(last, 16, 64)
	if !ok || err1 != nil || err2 != nil || s.First > s.Last {
		return s, false, fmt.Errorf("info mtree -f: not a section of memory: %s", excerpt(line))
	}
	s.Block = strings.TrimSpace(name)
	// A name may have an @ in it, as "/rom@etc/acpi/tables" has.
	if i := strings.LastIndex(name, " @"); i >= 0 {
		digits, _, _ := strings.Cut(name[i+2:], " ")
		if n, err := strconv.ParseUint(digits, 16, 64); err == nil {
			s.Offset, s.Block = n, strings.TrimSpace(name[:i])
		}
	}
	s.Block = strings.TrimSuffix(s.Block, " KVM") // who emulates, where it has no offset
	return s, true, nil
}

// sorted puts sections in order. None overlap in a view that is flat.
func sorted(all []Section) ([]Section, error) {
	slices.SortFunc(all, func(a, b Section) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
	for i := range all[:len(all)-1] {
		if a, b := all[i], all[i+1]; b.First <= a.Last {
			return nil, fmt.Errorf("info mtree -f: two sections overlap: 0x%x-0x%x and 0x%x-0x%x", a.First, a.Last, b.First, b.Last)
		}
	}
	return all, nil
}

// ParseHostAddress reads what "gpa2hva" prints: "Host virtual address for 0x0 (pc.ram)
// is 0x7f13dfe00000". What it refuses is an error with its own words.
func ParseHostAddress(text string) (uint64, error) {
	_, after, ok := strings.Cut(text, ") is 0x")
	if ok {
		if i := strings.LastIndex(after, ") is 0x"); i >= 0 { // within the name of the block
			after = after[i+len(") is 0x"):]
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(after), 16, 64); err == nil && n != 0 {
			return n, nil
		}
	}
	return 0, fmt.Errorf("gpa2hva: %s", excerpt(text))
}

// excerpt makes what QEMU printed fit for a message.
func excerpt(text string) string {
	const most = 200
	text = strings.TrimSpace(text)
	if len(text) > most {
		text = text[:most] + "..."
	}
	return strconv.Quote(text)
}
