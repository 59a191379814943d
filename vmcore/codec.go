// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"errors"
	"fmt"
	"sync"

	lzo "github.com/anchore/go-lzo"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// codec inflates pages, one at a time. It keeps what the algorithms need, and a
// buffer for what they read.
type codec struct {
	in   []byte
	out  []byte
	zlib inflater
	zstd *zstd.Decoder
}

var codecs = sync.Pool{New: func() any { return new(codec) }}

// buffer gives n bytes to read into. They hold until the next call.
func (c *codec) buffer(n int) []byte {
	if cap(c.in) < n {
		c.in = make([]byte, n)
	}
	return c.in[:n]
}

// scratch gives n bytes for a page that nobody keeps.
func (c *codec) scratch(n int) []byte {
	if cap(c.out) < n {
		c.out = make([]byte, n)
	}
	return c.out[:n]
}

// errInflated says that a page is not as long as it must be.
var (
	errInflatedShort = errors.New("less than a page")
	errInflatedLong  = errors.New("more than a page")
	errRawSize       = errors.New("not a page")
)

// inflate makes the page dst of what the file has for it. flags are those of the page
// descriptor, and name at most one algorithm. The page must come out in its length.
func (c *codec) inflate(dst, src []byte, flags uint32) error {
	switch flags {
	case 0:
		if len(src) != len(dst) {
			return errRawSize
		}
		copy(dst, src)
		return nil
	case kdumpZlib:
		return c.zlib.zlib(dst, src)
	case kdumpLZO:
		n, err := lzo.Decompress(src, dst)
		return inflated(n, len(dst), err, errors.Is(err, lzo.ErrOutputOverrun))
	case kdumpSnappy:
		n, err := s2.DecodedLen(src)
		if err != nil || n != len(dst) {
			return inflated(n, len(dst), err, false)
		}
		_, err = s2.Decode(dst, src)
		return err
	case kdumpZstd:
		return c.inflateZstd(dst, src)
	}
	return fmt.Errorf("no algorithm has flags 0x%x", flags)
}

// inflated judges the length of a page.
func inflated(n, want int, err error, long bool) error {
	switch {
	case long || err == nil && n > want:
		return errInflatedLong
	case err == nil && n < want:
		return errInflatedShort
	}
	return err
}

// inflateZstd bounds what a frame can make it allocate: nothing beyond the page, and
// tables of a known size.
func (c *codec) inflateZstd(dst, src []byte) error {
	if c.zstd == nil {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
			zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(16*kdumpMaxBlock))
		if err != nil {
			return err
		}
		c.zstd = d
	}
	out, err := c.zstd.DecodeAll(src, dst[:0:len(dst)])
	long := errors.Is(err, zstd.ErrDecoderSizeExceeded)
	return inflated(len(out), len(dst), err, long)
}
