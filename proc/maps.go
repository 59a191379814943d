// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"io"
	"iter"
	"strings"

	"github.com/remora-go/remora"
)

// ParseMaps parses the text of /proc/PID/maps, live or captured, on any system,
// line by line in bounded memory (proc_pid_maps(5); show_map_vma in the kernel's
// fs/proc/task_mmu.c). It ends after the first error: what reading said, or a
// *remora.FormatError, whose File is the reader's Name() where it has one. The
// last line need not end in a newline.
//
// The text cannot tell everything, since the kernel escapes nothing but newline:
//
//   - A newline in a file name is written \012 and decoded here. A backslash is
//     not escaped, so a name that really holds the four characters \012 is decoded too.
//   - " (deleted)" at the end is taken for the kernel's mark of an unlinked file, and sets
//     Deleted. A file whose own name ends so looks the same; device and inode do
//     not help, since an unlinked file keeps them.
//   - A file name that looks like a special one, such as [heap], cannot occur: file
//     names begin with / or are of the form kind:[detail].
//
// The special names are kept as they stand: [heap], [stack], [vdso], [vvar],
// [vvar_vclock], [vsyscall], [uprobes], [anon:NAME], [anon_shmem:NAME].
func ParseMaps(r io.Reader) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		l := lines{r: r, file: fileName(r, "maps")}
		var reg remora.Region
		for {
			line, err := l.next()
			if err == nil {
				err = l.region(line, &reg)
			}
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(remora.Region{}, err)
				return
			}
			if !yield(reg, nil) {
				return
			}
		}
	}
}

// findBuf is the least that holds all of a line but its name.
const findBuf = 128

// FindRegion streams the text of /proc/PID/maps up to the first region that
// ends above a. When that region holds a, it is the result, without Name and
// Deleted. Otherwise found is false and the result has nothing but the Range of
// the hole around a: from the end of the region before it, or 0, to the start of
// the next one, or the last address (one byte short where nothing at all is mapped).
//
// It allocates nothing when buf has 128 bytes or more; the larger buf is, the fewer reads.
func FindRegion(r io.Reader, a remora.Addr, buf []byte) (reg remora.Region, found bool, err error) {
	reg, _, found, err = findRegion(r, a, buf)
	return reg, found, err
}

// findRegion is FindRegion that gives the name beside it, as far as buf holds it. It is
// valid as long as buf is left alone.
func findRegion(r io.Reader, a remora.Addr, buf []byte) (reg remora.Region, name []byte, found bool, err error) {
	if len(buf) < findBuf {
		buf = make([]byte, firstLine)
	}
	l := lines{r: r, file: "maps", buf: buf, fixed: true}
	var hole remora.Addr // where the hole before the next region begins
	for {
		line, err := l.next()
		if err == io.EOF {
			return remora.Region{Range: rest(hole)}, nil, false, nil
		}
		if err != nil {
			return remora.Region{}, nil, false, err
		}
		name, col, want := parseMapsLine(line, &reg)
		if want != "" {
			l.file = fileName(r, "maps")
			return remora.Region{}, nil, false, l.malformed(line, col, want)
		}
		if reg.Contains(a) {
			return reg, name, true, nil
		}
		if reg.Start > a {
			return remora.Region{Range: remora.Between(hole, reg.Start)}, nil, false, nil
		}
		hole = reg.Last() + 1
	}
}

// rest is the Range of all addresses from a on.
func rest(a remora.Addr) remora.Range {
	if a == 0 {
		return remora.Range{Size: uint64(remora.MaxAddr)}
	}
	return remora.Between(a, 0)
}

// region parses a whole line into reg. The only allocation is for a name that is
// not the one reg had before.
func (l *lines) region(line []byte, reg *remora.Region) error {
	old := reg.Name
	name, col, want := parseMapsLine(line, reg)
	if want != "" {
		return l.malformed(line, col, want)
	}
	if n, ok := bytes.CutSuffix(name, []byte(" (deleted)")); ok {
		name, reg.Deleted = n, true
	}
	switch {
	case string(name) == old: // a decoded name never looks like a raw one
		reg.Name = old
	case bytes.Contains(name, []byte("\\012")):
		reg.Name = strings.ReplaceAll(string(name), "\\012", "\n")
	default:
		reg.Name = string(name)
	}
	return nil
}

// parseMapsLine parses a line of maps, without its newline, into reg: all but
// Name and Deleted, which it clears. name is the name as it stands, within line. When the
// line is malformed want says what was expected at byte col of it; want is empty
// otherwise. It allocates nothing.
func parseMapsLine(line []byte, reg *remora.Region) (name []byte, col int, want string) {
	*reg = remora.Region{}
	c := cursor{line: line}
	first := c.hex()
	c.byte('-', "- after the start address")
	at := c.col
	end := c.hex()
	if c.want == "" && end <= first {
		c.fail(at, "an end above the start")
	}
	reg.Range = remora.Between(remora.Addr(first), remora.Addr(end))
	c.space()
	reg.Perm, reg.Shared = c.perms()
	c.space()
	reg.Offset = c.hex()
	c.space()
	reg.Major = c.dev()
	c.byte(':', ": between the device numbers")
	reg.Minor = c.dev()
	c.space()
	reg.Inode = c.decimal()
	if c.want == "" && c.col < len(line) {
		c.space()
	}
	if c.want != "" {
		*reg = remora.Region{}
		return nil, c.col, c.want
	}
	return bytes.TrimLeft(line[c.col:], " "), 0, ""
}

// cursor walks along a line; after the first failure it stays where it is.
type cursor struct {
	line []byte
	col  int
	want string // what was expected at col; empty: all went well
}

func (c *cursor) fail(col int, want string) {
	if c.want == "" {
		c.col, c.want = col, want
	}
}

func (c *cursor) byte(b byte, want string) {
	if c.want != "" {
		return
	}
	if c.col >= len(c.line) || c.line[c.col] != b {
		c.fail(c.col, want)
		return
	}
	c.col++
}

func (c *cursor) space() { c.byte(' ', "a space") }

// number reads at most so many digits of the base, together at most 64 bits wide.
// Hexadecimal letters are lower case, as the kernel writes them.
func (c *cursor) number(base uint64, digits int, want string) uint64 {
	if c.want != "" {
		return 0
	}
	var v uint64
	i := c.col
	for ; i < len(c.line); i++ {
		d := uint64(c.line[i] - '0')
		if d > 9 {
			d = uint64(c.line[i]-'a') + 10
		}
		if d >= base {
			break
		}
		if i-c.col >= digits || v > (^uint64(0)-d)/base {
			c.fail(c.col, "a number of at most 64 bits")
			return 0
		}
		v = v*base + d
	}
	if i == c.col {
		c.fail(c.col, want)
		return 0
	}
	c.col = i
	return v
}

func (c *cursor) hex() uint64     { return c.number(16, 16, "a hexadecimal number") }
func (c *cursor) decimal() uint64 { return c.number(10, 20, "a decimal number") }

func (c *cursor) dev() uint32 {
	at := c.col
	v := c.hex()
	if v > 1<<32-1 {
		c.fail(at, "a device number of at most 32 bits")
	}
	return uint32(v)
}

func (c *cursor) perms() (p remora.Perm, shared bool) {
	const want = "permissions such as r-xp"
	if c.want != "" {
		return 0, false
	}
	if len(c.line)-c.col < 4 {
		c.fail(c.col, want)
		return 0, false
	}
	col := c.line[c.col : c.col+4]
	for i := range 3 {
		switch col[i] {
		case "rwx"[i]:
			p |= remora.PermRead << i
		case '-':
		default:
			c.fail(c.col, want)
		}
	}
	if shared = col[3] == 's'; !shared && col[3] != 'p' {
		c.fail(c.col, want)
	}
	if c.want == "" {
		c.col += 4
	}
	return p, shared
}
