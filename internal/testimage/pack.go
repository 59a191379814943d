// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"bytes"
	"compress/zlib"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// Method is how pages are packed in a kdump-compressed file: the flag of a page's
// descriptor, or Mixed.
type Method uint32

// The methods.
const (
	None   Method = 0
	Zlib   Method = 1
	LZO1X  Method = 2
	Snappy Method = 4
	Zstd   Method = 0x20
	Mixed  Method = 1 << 31 // one after the other
)

// Methods gives all methods there are, Mixed last.
func Methods() []Method { return []Method{None, Zlib, LZO1X, Snappy, Zstd, Mixed} }

func (m Method) String() string {
	switch m {
	case None:
		return "none"
	case Zlib:
		return "zlib"
	case LZO1X:
		return "lzo"
	case Snappy:
		return "snappy"
	case Zstd:
		return "zstd"
	}
	return "mixed"
}

// Pack packs a page, whatever becomes of its size. It panics for Mixed.
func (m Method) Pack(page []byte) []byte { return new(packer).by(m, page) }

// packer packs the pages of one file.
type packer struct {
	method Method
	next   int
	zlib   *zlib.Writer
	zstd   *zstd.Encoder
}

// pack gives a page as it is to be stored, and the flags of its descriptor. What
// does not become smaller is stored as it is.
func (p *packer) pack(page []byte) ([]byte, uint32) {
	m := p.method
	if m == Mixed {
		all := Methods()
		m = all[p.next%(len(all)-1)]
		p.next++
	}
	b := p.by(m, page)
	if m == None || len(b) >= len(page) {
		return page, 0
	}
	return b, uint32(m)
}

// by packs a page by a method. Those whose state is large keep it.
func (p *packer) by(m Method, page []byte) []byte {
	switch m {
	case None:
		return page
	case Zlib:
		var buf bytes.Buffer
		if p.zlib == nil {
			p.zlib = zlib.NewWriter(&buf)
		}
		p.zlib.Reset(&buf)
		_, _ = p.zlib.Write(page) // a Buffer gives no error
		_ = p.zlib.Close()
		return buf.Bytes()
	case LZO1X:
		return LZO(page)
	case Snappy:
		return snappy.Encode(nil, page)
	case Zstd:
		if p.zstd == nil {
			var err error
			p.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<17))
			if err != nil {
				panic("testimage: " + err.Error()) // the options are wrong
			}
		}
		return p.zstd.EncodeAll(page, nil)
	}
	panic("testimage: no such method")
}
