// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
)

// Regions gives physical memory run by run. What can be read is "System RAM"; the rest
// has no permission, and its name says why.
func (m *Image) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		for r, err := range m.Runs(ctx) {
			if err != nil {
				yield(remora.Region{}, err)
				return
			}
			g := remora.Region{Range: r.Range, Name: "System RAM", Perm: remora.PermRead}
			switch {
			case errors.Is(r.Err, remora.ErrNotSaved) && m.zero:
			case r.Err != nil:
				g.Name, g.Perm = "System RAM ("+r.Err.Error()+")", 0
			}
			if m.info.Writable && r.Err == nil {
				g.Perm |= remora.PermWrite
			}
			if !yield(g, nil) {
				return
			}
		}
	}
}

// Describe says what the image is, who made it, and what is missing.
func (m *Image) Describe(ctx context.Context) ([]remora.Fact, error) {
	var facts []remora.Fact
	add := func(key, value string) {
		if value != "" {
			facts = append(facts, remora.Fact{Key: key, Value: value})
		}
	}
	t := &m.meta
	kind := "kernel image (physical memory)"
	if m.info.Live {
		kind = "physical memory of the running system"
	}
	add("kind", kind)
	for _, p := range t.Parts {
		add("file", p.text())
	}
	add("format", t.formatText())
	add("reason", t.Reason)
	add("made by", t.Maker)
	add("arch", t.arch())
	if t.PageSize > 0 {
		add("page size", strconv.Itoa(t.PageSize))
	}
	add("kernel", strings.TrimSpace(t.Uname[0]+" "+t.Uname[2]))
	if !t.Time.IsZero() {
		add("time", t.Time.UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	if t.Level >= 0 {
		add("dump level", strconv.Itoa(t.Level))
	}
	add("packed with", strings.Join(t.Codecs, ", "))
	add("status", strings.Join(t.Flags, ", "))
	err := m.amounts(ctx, add)
	if n := t.processors(); n > 0 {
		add("processors", strconv.Itoa(n)+" with registers")
	}
	if n := len(t.VMCoreInfo); n > 0 {
		add("VMCOREINFO", strconv.Itoa(n)+" bytes")
	}
	for _, p := range t.Problems {
		add("problem", p.Error())
	}
	return facts, err
}

func (p *Part) text() string {
	text := p.File
	if p.Size > 0 {
		text += fmt.Sprintf(", %d bytes", p.Size)
	}
	if p.Flat {
		text += ", flattened"
	}
	if !p.Pages.Empty() {
		text += fmt.Sprintf(", for %v-%v", p.Pages.Start, p.Pages.Last())
	}
	return text
}

func (t *Meta) formatText() string {
	text := string(t.Format)
	if t.Version >= 0 {
		text += fmt.Sprintf(" version %d", t.Version)
	}
	if t.WordSize > 0 {
		order := "little-endian"
		if t.BigEndian {
			order = "big-endian"
		}
		text += fmt.Sprintf(", words of %d bytes, %s", t.WordSize, order)
	}
	return text
}

// processors counts those with registers: QEMU writes two notes for each.
func (t *Meta) processors() int {
	seen := map[int]bool{}
	for i := range t.CPUs {
		seen[t.CPUs[i].Index] = true
	}
	return len(seen)
}

// arch names the machine as Go does, where Go has a name for it.
func (t *Meta) arch() string {
	wide, little := t.WordSize == 8, !t.BigEndian
	switch m := t.Machine; {
	case m == elf.EM_NONE:
		return ""
	case m == elf.EM_X86_64:
		return "amd64"
	case m == elf.EM_386:
		return "386"
	case m == elf.EM_AARCH64:
		return "arm64"
	case m == elf.EM_ARM && little:
		return "arm"
	case m == elf.EM_RISCV && wide:
		return "riscv64"
	case m == elf.EM_S390 && wide:
		return "s390x"
	case m == elf.EM_PPC64 && little:
		return "ppc64le"
	case m == elf.EM_PPC64:
		return "ppc64"
	case m == elf.EM_LOONGARCH && wide:
		return "loong64"
	default:
		return strings.ToLower(strings.TrimPrefix(fmt.Sprint(m), "EM_"))
	}
}

// amounts sums up what is there and what is missing.
func (m *Image) amounts(ctx context.Context, add func(key, value string)) error {
	var saved, left, lost uint64
	rest := ""
	var first, last remora.Addr
	for r, err := range m.Runs(ctx) {
		if err != nil {
			return err
		}
		switch {
		case r.Err == nil:
			saved += r.Size
		case errors.Is(r.Err, remora.ErrNotSaved):
			left += r.Size
		case r.Rest:
			rest = fmt.Sprintf("what memory there was from %v on", r.Start)
			continue
		default:
			lost += r.Size
			continue
		}
		if saved+left == r.Size {
			first = r.Start
		}
		last = r.Last()
	}
	if saved+left > 0 {
		add("addresses", fmt.Sprintf("%v-%v", first, last))
	}
	amount := func(key string, n uint64) {
		if n > 0 {
			add(key, strconv.FormatUint(n, 10)+" bytes")
		}
	}
	if m.info.Live {
		amount("memory", saved)
	} else {
		amount("saved", saved)
	}
	amount("not saved", left)
	switch {
	case rest == "":
		amount("lost", lost)
	case lost == 0:
		add("lost", rest)
	default:
		add("lost", fmt.Sprintf("%d bytes, and %s", lost, rest))
	}
	return nil
}
