// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"

	"github.com/remora-go/remora"
)

// source is a file, or what stands for one: the payload of a flattened stream.
//
// Memory and tables are read with read and load, whose errors are constants; failed puts
// them into words when somebody asks. Headers are read with readSome and fill, whose errors
// say what was wanted.
type source struct {
	name string // for messages
	size int64  // bytes
	r    io.ReaderAt
	w    io.WriterAt // nil unless it is to be written
	flat bool
	// place gives the offset in the file called name where the byte at off lies, for
	// messages; nil: off itself.
	place func(off int64) int64
	// lost says why bytes past size are missing, nil when the file just ends there.
	lost error
}

// unmapped gives s for few bytes here and there: a page that is found for a few bytes
// costs more than a system call.
func (s *source) unmapped() *source {
	m, ok := s.r.(interface{ unmapped() *os.File })
	if !ok {
		return s
	}
	plain := *s
	plain.r = m.unmapped()
	return &plain
}

// at gives the offset to name in a message about the byte at off.
func (s *source) at(off int64) int64 {
	if s.place == nil {
		return off
	}
	return s.place(off)
}

// bad makes an error of this file.
func (s *source) bad(off int64, cause error, want, got string) *remora.FormatError {
	return &remora.FormatError{File: s.name, Offset: s.at(off), Want: want, Got: got, Err: cause}
}

// placed puts the offset of an error, made by who does not know of streams, where the
// byte really lies.
func (s *source) placed(err error) error {
	if bad, ok := errors.AsType[*remora.FormatError](err); ok && s.place != nil {
		bad.Offset = s.place(bad.Offset)
	}
	return err
}

// cut is the error that what is wanted at off lies past the end of the file.
func (s *source) cut(off int64, want string) *remora.FormatError {
	return s.bad(off, remora.ErrTruncated, want, s.end())
}

// end says where the file ends, and why if that is known.
func (s *source) end() string {
	text := fmt.Sprintf("the end of the file at 0x%x", s.size)
	if s.lost != nil {
		text += " (" + s.lost.Error() + ")"
	}
	return text
}

// held says for how many bytes from off one answer holds, and whether the file has them: a
// stream that was cut off lacks what its records leave out, which is not zeros.
func (s *source) held(off int64) (n int64, ok bool) {
	f, isFlat := s.r.(*flat)
	if s.lost == nil || !isFlat {
		return math.MaxInt64 - off, true
	}
	i := f.find(off)
	if i == len(f.pieces) {
		return math.MaxInt64 - off, false
	}
	if p := f.pieces[i]; p.off() <= off {
		return p.end() - off, true
	}
	return f.pieces[i].off() - off, false
}

// read reads a prefix of buf. Its errors are causes: ErrTruncated where the file ends
// now, ErrIO where it cannot be read.
func (s *source) read(buf []byte, off int64) (int, error) {
	if s.lost != nil {
		n, ok := s.held(off)
		if !ok {
			return 0, remora.ErrTruncated
		}
		buf = buf[:min(int64(len(buf)), n)]
	}
	n, err := s.r.ReadAt(buf, off)
	switch {
	case n == len(buf):
		return n, nil
	case err == nil || err == io.EOF || err == io.ErrUnexpectedEOF:
		return n, remora.ErrTruncated
	}
	return n, remora.ErrIO
}

// load fills buf from off, or gives the cause why it cannot, as read does.
func (s *source) load(buf []byte, off int64) error {
	if off < 0 || off > s.size || int64(len(buf)) > s.size-off {
		return remora.ErrTruncated
	}
	for len(buf) > 0 {
		n, err := s.read(buf, off)
		if err != nil {
			return err
		}
		buf, off = buf[n:], off+int64(n)
	}
	return nil
}

// failed says in words why load did not give n bytes at off, but cause. It reads them once
// more, for what reading says.
func (s *source) failed(off, n int64, want string, cause error) *remora.FormatError {
	if errors.Is(cause, remora.ErrTruncated) {
		return s.cut(off, want)
	}
	_, err := s.readSome(make([]byte, n), off, want)
	if bad, ok := errors.AsType[*remora.FormatError](err); ok {
		return bad
	}
	return s.bad(off, cause, want, cause.Error())
}

// readSome reads a header, or as much of it as lies before the end of the file. The error
// is a *remora.FormatError with what reading said.
func (s *source) readSome(buf []byte, off int64, want string) (int, error) {
	if off < 0 || off >= s.size {
		return 0, nil
	}
	buf = buf[:min(int64(len(buf)), s.size-off)]
	n, err := s.r.ReadAt(buf, off)
	if n == len(buf) || err == nil || err == io.EOF || err == io.ErrUnexpectedEOF {
		return n, nil
	}
	return n, s.bad(off+int64(n), err, want, err.Error())
}

// fill reads a header that must be whole. The error is a *remora.FormatError.
func (s *source) fill(buf []byte, off int64, want string) error {
	if off < 0 || off > s.size || int64(len(buf)) > s.size-off {
		return s.cut(min(max(off, 0), s.size), want)
	}
	n, err := s.readSome(buf, off, want)
	if err == nil && n < len(buf) {
		err = s.bad(off+int64(n), remora.ErrTruncated, want, "the end of the file, which has shrunk")
	}
	return err
}

// write writes a prefix of buf.
func (s *source) write(buf []byte, off int64) (int, error) {
	n, err := s.w.WriteAt(buf, off)
	if n < len(buf) || err != nil {
		return n, remora.ErrIO
	}
	return n, nil
}

// openFile opens a file of an image. What is no regular file is refused without opening
// it, since a FIFO would wait for a writer.
func openFile(path string, o *Options) (*source, io.Closer, error) {
	st, err := os.Stat(path)
	if err == nil {
		err = regular(path, st)
	}
	if err != nil {
		return nil, nil, err
	}
	how := os.O_RDONLY
	if o.Write {
		how = os.O_RDWR
	}
	f, err := os.OpenFile(path, how, 0)
	if err != nil {
		return nil, nil, err
	}
	if st, err = f.Stat(); err == nil {
		err = regular(path, st)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	s := &source{name: path, size: st.Size(), r: f}
	if o.Write {
		s.w = f
	}
	if o.NoMap {
		return s, f, nil
	}
	m := mapFile(f, s.size)
	s.r = m
	return s, m, nil
}

// regular refuses what is no file with something in it.
func regular(path string, st fs.FileInfo) error {
	got := ""
	switch mode := st.Mode(); {
	case mode.IsDir():
		got = "a directory"
	case mode&fs.ModeNamedPipe != 0:
		got = "a FIFO: an image must be in a file, so save it first"
	case !mode.IsRegular():
		got = "a special file"
	case st.Size() == 0:
		got = "an empty file"
	default:
		return nil
	}
	return &remora.FormatError{File: path, Want: anImage, Got: got, Err: remora.ErrUnrecognized}
}
