// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"errors"
	"fmt"
	"io"

	"github.com/remora-go/remora"
)

// File is an open file of an image. R must be safe for concurrent use, as io.ReaderAt
// asks for.
type File struct {
	Name string // for messages
	Size int64  // bytes
	R    io.ReaderAt
	W    io.WriterAt // nil: read only
}

// Open opens the image at path, with the other files of a split set in o.Parts. A file
// that is no kernel image gives a *remora.FormatError that Is remora.ErrUnrecognized and,
// where it is something known, says what can be done with it.
func Open(path string, o *Options) (*Image, error) {
	if o == nil {
		o = &Options{}
	}
	var srcs []*source
	var own []io.Closer
	for _, p := range append([]string{path}, o.Parts...) {
		s, c, err := openFile(p, o)
		if err != nil {
			closeAll(own)
			return nil, err
		}
		srcs, own = append(srcs, s), append(own, c)
	}
	m, err := open(srcs, o)
	if err != nil {
		closeAll(own)
		return nil, err
	}
	m.own = own
	return m, nil
}

// New opens an image in files that are open already: one, or all of a split set. Close
// leaves them open. Options.Parts and NoMap mean nothing here.
func New(files []File, o *Options) (*Image, error) {
	if o == nil {
		o = &Options{}
	}
	if len(files) == 0 {
		return nil, errors.New("vmcore: an image of no files")
	}
	var srcs []*source
	for _, f := range files {
		s := &source{name: f.Name, size: f.Size, r: f.R}
		if o.Write {
			s.w = f.W
		}
		srcs = append(srcs, s)
	}
	return open(srcs, o)
}

// open finds out the format and opens it.
func open(srcs []*source, o *Options) (*Image, error) {
	want := o.Format
	if want == "" && (o.Base != 0 || !o.Hole.Empty() || len(o.Segments) > 0) {
		want = Raw
	}
	if want == Raw {
		return openAs(Raw, "the options say so", srcs, o)
	}
	head, err := unwrap(srcs)
	if err != nil {
		return nil, err
	}
	if want != "" {
		return openAs(want, "the options say so", srcs, o)
	}
	as, reason, err := identify(srcs[0], head)
	if err != nil {
		return nil, err
	}
	if srcs[0].flat {
		reason += " inside a flattened stream"
	}
	return openAs(as, reason, srcs, o)
}

// unwrap puts what flattened streams hold in their place, and gives the start of the
// first file.
func unwrap(srcs []*source) ([]byte, error) {
	var first []byte
	for i, s := range srcs {
		head, err := s.head()
		if err == nil && isFlat(head) {
			if s, err = unwrapFlat(s); err != nil {
				return nil, err
			}
			s.flat = true
			srcs[i] = s
			head, err = s.head()
		}
		if err != nil {
			return nil, err
		}
		if i == 0 {
			first = head
		}
	}
	return first, nil
}

// openAs opens files of a known format.
func openAs(as Format, reason string, srcs []*source, o *Options) (*Image, error) {
	first := srcs[0]
	if len(srcs) > 1 && as != Kdump {
		return nil, first.bad(0, remora.ErrCorrupt, "one file, or parts in the format kdump",
			fmt.Sprintf("%d files, the first in the format %s", len(srcs), as))
	}
	if as != Raw && (o.Base != 0 || !o.Hole.Empty() || len(o.Segments) > 0) {
		return nil, fmt.Errorf("vmcore: %s: a base, a hole and segments are for the format raw, not %s", first.name, as)
	}
	var f format
	var err error
	switch as {
	case ELF:
		f, err = openELF(first, o)
	case Kdump:
		f, err = openKdump(srcs, o)
	case LiME, AVML:
		f, err = openLiME(first)
	case Raw:
		f, err = openRaw(first, o)
	default:
		return nil, fmt.Errorf("vmcore: %s: no format is called %q", first.name, as)
	}
	if err != nil {
		return nil, err
	}
	m := newImage(f, first.name, o)
	m.meta.Format, m.meta.Reason = as, reason
	if m.meta.Parts == nil {
		m.meta.Parts = []Part{{File: first.name, Size: first.size, Flat: first.flat}}
	}
	return m, nil
}

func closeAll(all []io.Closer) error {
	var first error
	for _, c := range all {
		if err := c.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
