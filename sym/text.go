// SPDX-License-Identifier: Apache-2.0

package sym

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/remora-go/remora"
)

// maxLine is more than a line can have: names end after 512 bytes (KSYM_NAME_LEN).
const maxLine = 4096

// ofText gives the symbols of a System.map or of /proc/kallsyms.
func (s *File) ofText(r io.Reader, yield func(Symbol, error) bool) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, maxLine), maxLine)
	off := int64(0)
	for lines.Scan() {
		line := lines.Bytes()
		one, ok := parseLine(line)
		if !ok {
			yield(Symbol{}, s.bad(off, "an address, a letter and a name", strconv.Quote(string(line[:min(len(line), 40)]))))
			return
		}
		off += int64(len(line)) + 1
		if !yield(one, nil) {
			return
		}
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		yield(Symbol{}, s.bad(off, "a line of a symbol table", fmt.Sprintf("one of more than %d bytes", maxLine)))
	} else if err != nil {
		yield(Symbol{}, fmt.Errorf("%s: %w", s.path, err))
	}
}

// parseLine takes a line apart: "ffffffff81000000 T _text", and in /proc/kallsyms a
// tab and "[module]" behind it.
func parseLine(line []byte) (Symbol, bool) {
	digits, rest, _ := bytes.Cut(line, []byte{' '})
	addr, ok := parseHex(digits)
	if !ok || len(rest) < 3 || rest[1] != ' ' || !isLetter(rest[0]) {
		return Symbol{}, false
	}
	name, module, _ := bytes.Cut(rest[2:], []byte{'\t'})
	if len(name) == 0 {
		return Symbol{}, false
	}
	s := Symbol{Addr: remora.Addr(addr), Name: string(name), Type: rest[0]}
	if n := len(module); n > 2 && module[0] == '[' && module[n-1] == ']' {
		s.Module = string(module[1 : n-1])
	} else if n > 0 {
		return Symbol{}, false
	}
	return s, true
}

// parseHex reads a number of 1 to 16 digits.
func parseHex(b []byte) (n uint64, ok bool) {
	if len(b) == 0 || len(b) > 16 {
		return 0, false
	}
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		n = n<<4 | uint64(c)
	}
	return n, true
}

func isLetter(c byte) bool { return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '?' }
