// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"fmt"
	"io"
	"strconv"

	"github.com/remora-go/remora"
)

const (
	firstLine = 16 << 10 // the buffer at first; seldom outgrown
	maxLine   = 1 << 20  // a path deeper than this is refused, not cut
	maxEmpty  = 100      // empty reads in a row, as in package bufio
)

// lines cuts text into lines in one buffer, and knows where in the text it is.
type lines struct {
	r    io.Reader
	file string
	buf  []byte
	lo   int // the first byte not yet given out
	hi   int // the end of what was read
	err  error

	off  int64 // in the text, of buf[lo]
	at   int64 // in the text, of the line last given out
	open bool  // that line has no newline: it is the last one, perhaps cut off

	fixed bool // never grow buf: give out the head of a long line and drop its tail
	drop  bool // the tail of a long line comes next
}

// fileName names the text in errors: the reader's own name, as *os.File has one.
func fileName(r io.Reader, other string) string {
	if n, ok := r.(interface{ Name() string }); ok {
		return n.Name()
	}
	return other
}

// next gives the next line without its newline, or nil and io.EOF. The line is
// valid until the next call.
func (l *lines) next() ([]byte, error) {
	scan := l.lo
	for {
		if i := bytes.IndexByte(l.buf[scan:l.hi], '\n'); i >= 0 {
			line := l.take(scan+i, 1)
			if !l.drop {
				return line, nil
			}
			l.drop, scan = false, l.lo
			continue
		}
		if l.drop {
			l.take(l.hi, 0)
		}
		scan = l.hi
		if l.err != nil {
			return l.last()
		}
		if l.lo > 0 {
			copy(l.buf, l.buf[l.lo:l.hi])
			scan, l.hi, l.lo = scan-l.lo, l.hi-l.lo, 0
		}
		if l.hi == len(l.buf) {
			if l.fixed {
				l.drop = true
				return l.take(l.hi, 0), nil
			}
			if len(l.buf) >= maxLine {
				l.at = l.off
				return nil, l.fault(0, "a line of at most 1 MiB", "a longer one")
			}
			l.buf = append(l.buf, make([]byte, max(firstLine, len(l.buf)))...)
		}
		l.fill()
	}
}

// take gives out buf[lo:end] and drops skip bytes after it.
func (l *lines) take(end, skip int) []byte {
	line := l.buf[l.lo:end]
	l.at, l.open = l.off, false
	l.off += int64(end + skip - l.lo)
	l.lo = end + skip
	return line
}

// last gives out what has no newline at the end of the text.
func (l *lines) last() ([]byte, error) {
	if l.lo == l.hi || l.err != io.EOF {
		return nil, l.err
	}
	line := l.take(l.hi, 0)
	l.open = true
	return line, nil
}

func (l *lines) fill() {
	for range maxEmpty {
		n, err := l.r.Read(l.buf[l.hi:])
		l.hi += n
		if err != nil {
			l.err = err
			if err != io.EOF {
				l.err = fmt.Errorf("%s: offset 0x%x: %w", l.file, l.off+int64(l.hi-l.lo), err)
			}
			return
		}
		if n > 0 {
			return
		}
	}
	l.err = fmt.Errorf("%s: %w", l.file, io.ErrNoProgress)
}

// fault says what is wrong at byte col of the current line.
func (l *lines) fault(col int, want, got string) error {
	e := &remora.FormatError{File: l.file, Offset: l.at + int64(col), Want: want, Got: got, Err: remora.ErrCorrupt}
	if l.open {
		e.Err = remora.ErrTruncated
	}
	return e
}

// malformed is fault with the word of the line that was found there.
func (l *lines) malformed(line []byte, col int, want string) error {
	word := line[min(col, len(line)):]
	if i := bytes.IndexByte(word, ' '); i > 0 {
		word = word[:i]
	}
	got := strconv.Quote(string(word[:min(len(word), 32)]))
	if len(word) == 0 {
		got = "the end of the line"
	}
	return l.fault(col, want, got)
}
