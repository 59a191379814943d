// SPDX-License-Identifier: Apache-2.0

package testimage

import "io"

// RawOptions say what of physical memory a raw image holds. The zero ones give all
// of it from address 0, holes as zeros (LiME's padded mode).
type RawOptions struct {
	Base      uint64  // address of the first byte
	HoleStart uint64  // the addresses from here
	HoleSize  uint64  // and as long as this are not in the file, as the PCI hole is not
	Ranges    []Range // these one after the other instead
	Size      uint64  // the image ends here; behind the last page when 0
}

// Raw gives the memory as a raw image. What is not saved is zeros in it.
func (p *Physical) Raw(o RawOptions) []byte {
	return inMemory(func(w io.WriterAt) error { return p.RawTo(w, o) })
}

// RawTo writes to w what Raw gives. Runs cost nothing.
func (p *Physical) RawTo(w io.WriterAt, o RawOptions) error {
	ranges := o.Ranges
	if ranges == nil {
		end := o.Size
		if end == 0 {
			end = p.End() * uint64(p.Size())
		}
		ranges = []Range{{o.Base, end}}
		if o.HoleSize != 0 {
			ranges = []Range{{o.Base, o.HoleStart}, {o.HoleStart + o.HoleSize, end}}
		}
	}
	s := &sink{w: w}
	var at int64
	for _, r := range ranges {
		if r.Start >= r.End {
			continue
		}
		if err := p.rangeTo(s, r, at); err != nil {
			return err
		}
		at += int64(r.End - r.Start)
	}
	return s.close()
}
