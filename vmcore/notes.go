// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// Types of notes of the owner CORE (include/uapi/linux/elf.h).
const (
	ntPRStatus   = 1
	ntPRPSInfo   = 3
	ntTaskStruct = 4
	ntAuxv       = 6
	ntFile       = 0x46494c45
	ntDeviceDump = 0x700 // of LINUX: what a driver has saved (VMCOREDD)
)

// What of the notes is kept in memory, in bytes. A dump of a device (VMCOREDD) can be
// larger than memory.
const (
	maxDesc  = 1 << 20
	maxDescs = 64 << 20
)

// notes are the notes of an image, and what they say.
type notes struct {
	all     []Note
	cpus    []CPU
	info    []byte // VMCOREINFO
	infoOff int64  // of info in the file
	damage  []*remora.FormatError
	kept    int // bytes of descriptors
	perCPU  map[string]int
}

// maxProblems is how many problems of a kind are kept from the opening of an image.
const maxProblems = 64

// problems are what was passed over on the way.
type problems struct{ all []error }

func (p *problems) add(bad *remora.FormatError) {
	if len(p.all) < maxProblems {
		p.all = append(p.all, bad)
	}
}

// has says whether there is a note of owner and, if any are given, of one of types.
func (n *notes) has(owner string, types ...uint32) bool {
	return slices.ContainsFunc(n.all, func(x Note) bool {
		return x.Owner == owner && (len(types) == 0 || slices.Contains(types, x.Type))
	})
}

func (n *notes) xen() bool {
	return slices.ContainsFunc(n.all, func(x Note) bool { return strings.HasPrefix(x.Owner, "Xen") })
}

// ofELF reads the notes of an ELF file. Damage is kept; what reading said is an error.
func (n *notes) ofELF(s *source, f *elfcore.File) error {
	left := uint64(f.Size) // or segments that are all the same bytes would be read again and again
	for i := range f.Progs {
		p := &f.Progs[i]
		if p.Type != elf.PT_NOTE {
			continue
		}
		size := f.Saved(p)
		if size > left {
			n.bad(s.bad(f.ProgOffset(p), remora.ErrCorrupt, "segments of notes that do not overlap", "more bytes of notes than the file has"))
			break
		}
		left -= size
		if err := n.walk(s, f, p); err != nil {
			return err
		}
	}
	return nil
}

// walk takes the notes of one segment.
func (n *notes) walk(s *source, f *elfcore.File, p *elfcore.Prog) error {
	for note, err := range f.Notes(p) {
		if err == nil {
			err = n.takeELF(s, f, note)
		} else {
			err = s.placed(err)
		}
		if err == nil {
			continue
		}
		bad, ok := errors.AsType[*remora.FormatError](err)
		if !ok || bad.Err != remora.ErrTruncated && bad.Err != remora.ErrCorrupt {
			return err
		}
		n.bad(bad)
	}
	return nil
}

func (n *notes) bad(bad *remora.FormatError) {
	if len(n.damage) < maxProblems {
		n.damage = append(n.damage, bad)
	}
}

// takeELF reads the descriptor of a note, if it is not too large, and takes it.
func (n *notes) takeELF(s *source, f *elfcore.File, note elfcore.Note) error {
	x := Note{Owner: note.Owner, Type: note.Type, Offset: note.Off, Size: note.Size}
	if note.Size <= maxDesc && n.kept+int(note.Size) <= maxDescs {
		var err error
		if x.Desc, err = f.Desc(note, maxDesc); err != nil {
			return s.placed(err)
		}
		n.kept += len(x.Desc)
	}
	return n.take(s, x, f.Order(), f.Machine)
}

// take adds a note, and decodes it if it is one of a processor or VMCOREINFO. The error
// is a *remora.FormatError.
func (n *notes) take(s *source, x Note, order binary.ByteOrder, m elf.Machine) error {
	n.all = append(n.all, x)
	bad := func(want string) error {
		return s.bad(x.Offset, remora.ErrCorrupt, want, fmt.Sprintf("%d bytes", x.Size))
	}
	switch {
	case x.Owner == "VMCOREINFO" && x.Type == 0:
		if n.info != nil {
			return s.bad(x.Offset, remora.ErrCorrupt, "one note VMCOREINFO", "another")
		}
		if x.Desc == nil && x.Size > 0 {
			return bad(fmt.Sprintf("a note VMCOREINFO of at most %d bytes", maxDesc))
		}
		n.info, n.infoOff = bytes.TrimRight(x.Desc, "\x00"), x.Offset
	case x.Owner == "CORE" && x.Type == ntPRStatus:
		if want := n.cpu("NT_PRSTATUS", x.Desc, func(c *CPU) string { return prStatus(c, x.Desc, order, m) }); want != "" {
			return bad(want)
		}
	case x.Owner == "QEMU" && x.Type == 0:
		if want := n.cpu("QEMU", x.Desc, func(c *CPU) string { return qemuState(c, x.Desc, order) }); want != "" {
			return bad(want)
		}
	}
	return nil
}

// cpu adds a processor. One that was not captured has an empty note.
func (n *notes) cpu(source string, desc []byte, decode func(*CPU) (want string)) string {
	if n.perCPU == nil {
		n.perCPU = make(map[string]int)
	}
	c := CPU{Index: n.perCPU[source], Source: source}
	n.perCPU[source]++
	if len(desc) == 0 {
		return ""
	}
	if want := decode(&c); want != "" {
		return want
	}
	n.cpus = append(n.cpus, c)
	return ""
}

// cpusOf decodes the processors of notes that were read elsewhere, without those that are
// damaged.
func cpusOf(all []Note, order binary.ByteOrder, m elf.Machine) []CPU {
	var n notes
	for _, x := range all {
		_ = n.take(&source{}, x, order, m) // the error is for who checks the notes
	}
	return n.cpus
}

// check reports the damage that was found on opening, and lines of VMCOREINFO that are none.
func (n *notes) check(s *source, found func(*remora.FormatError)) {
	for _, bad := range n.damage {
		found(bad)
	}
	s.checkInfo(n.info, n.infoOff, found)
}

// checkInfo reports the lines of VMCOREINFO, which lies at off, that are none, up to
// maxProblems of them.
func (s *source) checkInfo(info []byte, off int64, found func(*remora.FormatError)) {
	count := 0
	for at, line := range infoLines(info) {
		if key, _, ok := strings.Cut(line, "="); !ok || key == "" || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
			found(s.bad(off+int64(at), remora.ErrCorrupt, "a line KEY=VALUE of VMCOREINFO", fmt.Sprintf("%.40q", line)))
			if count++; count == maxProblems {
				return
			}
		}
	}
}

// infoLines gives the lines of VMCOREINFO that are not empty, and where they begin.
func infoLines(info []byte) iter.Seq2[int, string] {
	return func(yield func(int, string) bool) {
		at := 0
		for line := range bytes.Lines(info) {
			if text := string(bytes.TrimSuffix(line, []byte("\n"))); text != "" && !yield(at, text) {
				return
			}
			at += len(line)
		}
	}
}

// takeInfo fills in what VMCOREINFO (Documentation/admin-guide/kdump/vmcoreinfo.rst) says
// of the image itself. The numbers are decimal.
func (m *Meta) takeInfo(info []byte) {
	m.VMCoreInfo = info
	for _, line := range infoLines(info) {
		key, value, _ := strings.Cut(line, "=")
		switch key {
		case "OSRELEASE":
			m.Uname[0], m.Uname[2] = "Linux", value
		case "PAGESIZE":
			if n, err := strconv.ParseUint(value, 10, 32); err == nil && n > 0 && n&(n-1) == 0 {
				m.PageSize = int(n)
			}
		case "CRASHTIME":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n > 0 {
				m.Time = time.Unix(n, 0)
			}
		case "NUMBER(phys_base)":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				m.PhysBase, m.HasBase = uint64(n), true
			}
		}
	}
}
