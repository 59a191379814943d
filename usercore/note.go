// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"bytes"
	"cmp"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
)

// Note is one note of the core, as it stands in the file.
type Note struct {
	Owner  string // "CORE", "LINUX", "GDB"; empty in some of Delve's
	Type   uint32 // counted by each owner for itself
	Offset int64  // of the descriptor in the file
	Size   uint32 // of the descriptor, in bytes
	Thread int64  // id of the thread that it describes, 0 where it describes the process
}

// Types of notes (include/uapi/linux/elf.h; Delve's pkg/elfwriter).
const (
	ntPRStatus    = 1
	ntPRPSInfo    = 3
	ntTaskStruct  = 4
	ntAuxv        = 6
	ntFile        = 0x46494c45
	ntSigInfo     = 0x53494749
	ntDelveHeader = 0x444c5645
	ntDelveThread = 0x444c5654
)

// maxDesc is the largest descriptor that is read, in bytes. NT_FILE is at most
// 16 MiB (core_file_note_size_max in the kernel's fs/coredump.c).
const maxDesc = 64 << 20

// mapping is an entry of NT_FILE.
type mapping struct {
	remora.Range
	offset uint64 // in the file, in bytes
	name   string
}

// readNotes indexes all notes and decodes those of the process. Damage is kept as
// a problem: memory can be read all the same. What reading said is an error.
func (c *Core) readNotes() error {
	thread := int64(0)
	left := uint64(c.file.Size) // or segments that are all the same bytes would be read again and again
	for i := range c.file.Progs {
		p := &c.file.Progs[i]
		if p.Type != elf.PT_NOTE {
			continue
		}
		size := c.file.Saved(p)
		if size > left {
			c.problem(c.badProg(p, "note segments that do not overlap", fmt.Sprintf("more bytes than the file's 0x%x", c.file.Size)))
			break
		}
		left -= size
		for n, err := range c.file.Notes(p) {
			if err == nil {
				err = c.takeNote(n, &thread)
			}
			if err != nil && !damage(err) {
				return err
			}
			if err != nil {
				c.problem(err)
			}
		}
	}
	slices.SortStableFunc(c.files, func(a, b mapping) int { return cmp.Compare(a.Start, b.Start) })
	if c.process.PID == 0 {
		c.process.PID = c.delve.pid
	}
	return nil
}

// maxProblems is how many problems are kept.
const maxProblems = 16

func (c *Core) problem(err error) {
	if len(c.problems) < maxProblems {
		c.problems = append(c.problems, err)
	}
}

// damage says whether err is of what the file holds, not of reading it.
func damage(err error) bool {
	bad, ok := err.(*remora.FormatError)
	return ok && (bad.Err == remora.ErrTruncated || bad.Err == remora.ErrCorrupt)
}

// takeNote indexes one note, and decodes it if it is one of the process.
func (c *Core) takeNote(n elfcore.Note, thread *int64) error {
	note := Note{Owner: n.Owner, Type: n.Type, Offset: n.Off, Size: n.Size}
	var err error
	switch kindOf(&note) {
	case ntPRStatus, ntDelveThread:
		err = c.startThread(&note, thread)
	case ntPRPSInfo:
		err = c.decode(note, c.psInfo)
	case ntAuxv:
		err = c.decode(note, c.readAuxv)
	case ntFile:
		err = c.decode(note, c.readFiles)
	case ntDelveHeader:
		err = c.decode(note, c.readDelve)
	case ntSigInfo:
		note.Thread = *thread
		if c.threads <= 1 {
			err = c.decode(note, c.sigInfo)
		}
	default:
		note.Thread = *thread
	}
	c.notes = append(c.notes, note)
	return err
}

// kindOf gives the type of a note that is known here, and 0 for others. Delve
// leaves the owner of its notes empty.
func kindOf(n *Note) uint32 {
	switch {
	case n.Owner == "CORE" || n.Owner == "" && n.Type != ntDelveThread:
		if n.Type != ntDelveThread && n.Type != ntDelveHeader {
			return n.Type
		}
	case n.Owner == "Delve Header" && n.Type == ntDelveHeader, n.Owner == "" && n.Type == ntDelveThread:
		return n.Type
	}
	return 0
}

// startThread begins the notes of a thread: its id stands inside
// struct elf_prstatus, or at the start of Delve's note.
func (c *Core) startThread(note *Note, thread *int64) error {
	c.threads++
	*thread = 0
	at, size := 16+2*c.file.WordSize(), 4 // pr_pid
	if note.Type == ntDelveThread {
		at, size = 0, 8
	}
	if uint64(note.Size) < uint64(at+size) {
		return c.badNote(note, fmt.Sprintf("a thread of at least %d bytes", at+size))
	}
	b, err := c.file.Desc(elfcore.Note{Off: note.Offset, Size: uint32(at + size)}, maxDesc)
	if err != nil {
		return err
	}
	order := c.file.Order()
	if note.Type == ntDelveThread {
		*thread = int64(binary.LittleEndian.Uint64(b))
	} else if *thread = int64(int32(order.Uint32(b[at:]))); c.threads == 1 {
		c.process.Signal.Number = int32(int16(order.Uint16(b[12:]))) // pr_cursig
	}
	note.Thread = *thread
	return nil
}

// decode reads a note for f, which says what was wanted if it cannot use it.
func (c *Core) decode(n Note, f func(b []byte) (want string)) error {
	b, err := c.file.Desc(elfcore.Note{Off: n.Offset, Size: n.Size}, maxDesc)
	if err != nil {
		return err
	}
	if want := f(b); want != "" {
		return c.badNote(&n, want)
	}
	return nil
}

func (c *Core) badNote(n *Note, want string) error {
	return &remora.FormatError{File: c.file.Name, Offset: n.Offset, Want: want,
		Got: fmt.Sprintf("a note of type 0x%x with %d bytes", n.Type, n.Size), Err: remora.ErrCorrupt}
}

// readFiles decodes NT_FILE: count, page size, triples of start, end and offset in
// pages, then the names (fill_files_note in the kernel's fs/binfmt_elf.c).
func (c *Core) readFiles(b []byte) string {
	w := c.file.WordSize()
	if len(b) < 2*w {
		return "the head of NT_FILE"
	}
	count, page := c.file.Word(b), c.file.Word(b[w:])
	b = b[2*w:]
	if count > uint64(len(b))/uint64(3*w+1) {
		return fmt.Sprintf("NT_FILE with %d mappings", count)
	}
	names := b[count*uint64(3*w):]
	for ; count > 0; count-- {
		start, end, off := c.file.Word(b), c.file.Word(b[w:]), c.file.Word(b[2*w:])
		b = b[3*w:]
		n := bytes.IndexByte(names, 0)
		if n < 0 || end <= start {
			return "a name and a range for each mapping in NT_FILE"
		}
		c.files = append(c.files, mapping{remora.Between(remora.Addr(start), remora.Addr(end)), off * page, string(names[:n])})
		names = names[n+1:]
	}
	return ""
}

// text gives the text of a fixed field, up to its first NUL.
func text(b []byte) string {
	if n := bytes.IndexByte(b, 0); n >= 0 {
		b = b[:n]
	}
	return string(b)
}

// Notes gives the notes of the core in file order, those too that are decoded
// elsewhere.
func (c *Core) Notes() []Note { return slices.Clone(c.notes) }

// NoteData reads the descriptor of a note, at most 64 MiB of it.
func (c *Core) NoteData(n Note) ([]byte, error) {
	if !c.gate.Enter() {
		return nil, fs.ErrClosed
	}
	defer c.gate.Leave()
	return c.file.Desc(elfcore.Note{Off: n.Offset, Size: n.Size}, maxDesc)
}

// delveHeader is what Delve says of itself and the process.
type delveHeader struct {
	platform string // GOOS/GOARCH; empty where the core is not Delve's
	version  string
	pid      int64
}

// readDelve decodes the lines of Delve's header (Dump in its pkg/proc/dump.go).
func (c *Core) readDelve(b []byte) string {
	lines := strings.Split(string(b), "\n")
	c.delve.platform = lines[0]
	for _, line := range lines[1:] {
		if v, ok := strings.CutPrefix(line, "Target Pid: "); ok {
			c.delve.pid, _ = strconv.ParseInt(v, 10, 64) // 0: not known
		} else if v, ok := strings.CutPrefix(line, "Version: "); ok {
			c.delve.version = v
		}
	}
	if !strings.Contains(c.delve.platform, "/") {
		return "the platform in Delve's header"
	}
	return ""
}
