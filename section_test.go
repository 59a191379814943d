// SPDX-License-Identifier: Apache-2.0

package remora_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// text is what the sections of these tests hold.
var text = strings.Repeat("the memory of another address space. ", 250)

func TestSectionIsAReader(t *testing.T) {
	const kernel = remora.Addr(0xffff888000000000)
	s := space(t, nil, kernel, []byte(text))
	if err := s.Map(remora.Range{Start: remora.MaxAddr - 0xfff, Size: 0x1000}, memtest.MapOptions{Perm: rw}); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		r    remora.Range
		want string
	}{
		"whole":                  {remora.Range{Start: kernel, Size: uint64(len(text))}, text},
		"not aligned":            {remora.Range{Start: kernel + 5, Size: 5001}, text[5:5006]},
		"empty":                  {remora.Range{Start: kernel}, ""},
		"empty in a hole":        {remora.Range{Start: 0x1000}, ""},
		"up to the last address": {remora.Range{Start: remora.MaxAddr - 9, Size: 10}, strings.Repeat("\x00", 10)},
	} {
		t.Run(name, func(t *testing.T) {
			if err := iotest.TestReader(s.Memory().Section(t.Context(), row.r), []byte(row.want)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A hole is a fault, never io.EOF and never zeros.
func TestSectionOverAHole(t *testing.T) {
	s := space(t, &memtest.SparseOptions{Name: "mem"}, 0x1000, bytes.Repeat([]byte{'x'}, 0x1000))
	sec := s.Memory().Section(t.Context(), remora.Range{Start: 0x1ff0, Size: 100})
	got, err := io.ReadAll(sec)
	if want := "read mem:0x2000: not mapped"; string(got) != strings.Repeat("x", 16) || err == nil || err.Error() != want {
		t.Errorf("read %q, %v, want 16 bytes, %s", got, err, want)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v Is the end of a file", err)
	}
	buf := make([]byte, 32)
	if n, err := sec.ReadAt(buf, 90); n != 0 || !errors.Is(err, remora.ErrUnmapped) {
		t.Errorf("a read over the hole and the end: %d, %v", n, err)
	}
	if n, err := sec.WriteAt(buf, 8); n != 8 || !errors.Is(err, remora.ErrUnmapped) {
		t.Errorf("a write into the hole: %d, %v, want 8, %v", n, err, remora.ErrUnmapped)
	}
}

func TestSectionAtItsEdges(t *testing.T) {
	s := space(t, nil, 0x1000, []byte(text))
	sec := s.Memory().Section(t.Context(), remora.Range{Start: 0x1000, Size: 10})
	for _, row := range []struct {
		name string
		off  int64
		size int
		n    int
		eof  bool // of a read; io.ErrShortWrite of a write
		bad  bool // another error
	}{
		{name: "whole", size: 10, n: 10},
		{name: "more than whole", size: 11, n: 10, eof: true},
		{name: "over the end", off: 8, size: 4, n: 2, eof: true},
		{name: "at the end", off: 10, size: 1, eof: true},
		{name: "behind the end", off: 1 << 62, size: 1, eof: true},
		{name: "nothing", off: 3},
		{name: "nothing at the end", off: 10},
		{name: "before the start", off: -1, size: 1, bad: true},
		{name: "nothing before the start", off: -1, bad: true},
	} {
		t.Run(row.name, func(t *testing.T) {
			judge := func(verb string, n int, err, end error) {
				t.Helper()
				want := error(nil)
				if row.eof {
					want = end
				}
				if n != row.n || !row.bad && err != want || row.bad && (err == nil || err == io.EOF || err == io.ErrShortWrite) {
					t.Errorf("%s: %d, %v, want %d, %v, other: %t", verb, n, err, row.n, want, row.bad)
				}
			}
			n, err := sec.ReadAt(make([]byte, row.size), row.off)
			judge("read", n, err, io.EOF)
			n, err = sec.WriteAt(bytes.Repeat([]byte{'w'}, row.size), row.off)
			judge("write", n, err, io.ErrShortWrite)
		})
	}
	got := make([]byte, 12)
	if s.Peek(got, 0x1000); string(got) != strings.Repeat("w", 10)+text[10:12] {
		t.Errorf("after the writes the memory holds %q", got)
	}
}

func TestSectionSeek(t *testing.T) {
	s := space(t, nil, 0x1000, []byte(text))
	sec := s.Memory().Section(t.Context(), remora.Range{Start: 0x1000, Size: 100})
	if sec.Size() != 100 {
		t.Errorf("Size is %d", sec.Size())
	}
	for _, row := range []struct {
		off    int64
		whence int
		pos    int64
		ok     bool
	}{
		{40, io.SeekStart, 40, true},
		{-5, io.SeekCurrent, 35, true},
		{-100, io.SeekEnd, 0, true},
		{7, io.SeekEnd, 107, true},
		{-1, io.SeekStart, 0, false},
		{-108, io.SeekCurrent, 0, false},
		{1<<63 - 1, io.SeekCurrent, 0, false},
		{0, 3, 0, false},
		{0, io.SeekCurrent, 107, true}, // where it was before those that failed
	} {
		pos, err := sec.Seek(row.off, row.whence)
		if (err == nil) != row.ok || row.ok && pos != row.pos {
			t.Errorf("Seek(%d, %d) gives %d, %v, want %d, and no error: %t", row.off, row.whence, pos, err, row.pos, row.ok)
		}
	}
	if n, err := sec.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("a read behind the end: %d, %v", n, err)
	}
}

// io's offsets are signed, a Range is not.
func TestSectionOfAlmostEverything(t *testing.T) {
	s := space(t, nil, 1<<63-0x1000, bytes.Repeat([]byte{'x'}, 0x2000))
	sec := s.Memory().Section(t.Context(), remora.Range{Size: 1<<64 - 1})
	if sec.Size() != 1<<63-1 {
		t.Errorf("Size is %d, want 2^63-1", sec.Size())
	}
	buf := make([]byte, 4)
	if n, err := sec.ReadAt(buf, 1<<63-3); n != 2 || err != io.EOF || string(buf[:n]) != "xx" {
		t.Errorf("the last bytes: %d, %v", n, err)
	}
}
