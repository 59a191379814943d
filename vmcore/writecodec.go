// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
)

// packer compresses pages, one at a time.
type packer struct {
	flag uint32
	// pack appends a page to dst.
	pack func(dst, page []byte) ([]byte, error)
}

// flag gives the bit of a codec.
func (c Codec) flag() uint32 {
	switch c {
	case Zlib, "":
		return kdumpZlib
	case Zstd:
		return kdumpZstd
	case Snappy:
		return kdumpSnappy
	}
	return 0
}

// newPacker gives a packer, nil for None.
func newPacker(c Codec, level int) (*packer, error) {
	bad := func(most int) error {
		return fmt.Errorf("level %d of %s: want 1 to %d: %w", level, c, most, errors.ErrUnsupported)
	}
	p := &packer{flag: c.flag()}
	switch c {
	case Zlib, "":
		if level == 0 {
			level = zlib.DefaultCompression
		} else if level < 0 || level > 9 {
			return nil, bad(9)
		}
		var out bytes.Buffer
		z, err := zlib.NewWriterLevel(&out, level)
		if err != nil {
			return nil, err
		}
		p.pack = func(dst, page []byte) ([]byte, error) {
			out.Reset()
			z.Reset(&out)
			if _, err := z.Write(page); err != nil {
				return dst, err
			}
			if err := z.Close(); err != nil {
				return dst, err
			}
			return append(dst, out.Bytes()...), nil
		}
	case Zstd:
		if level == 0 {
			level = 3
		} else if level < 0 || level > 22 {
			return nil, bad(22)
		}
		z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false),
			zstd.WithSingleSegment(true), zstd.WithLowerEncoderMem(true), zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(level)))
		if err != nil {
			return nil, err
		}
		p.pack = func(dst, page []byte) ([]byte, error) { return z.EncodeAll(page, dst), nil }
	case Snappy:
		if level != 0 {
			return nil, fmt.Errorf("snappy has no levels: %w", errors.ErrUnsupported)
		}
		var out []byte
		p.pack = func(dst, page []byte) ([]byte, error) {
			out = s2.EncodeSnappy(out[:cap(out)], page)
			return append(dst, out...), nil
		}
	case None:
		if level != 0 {
			return nil, fmt.Errorf("pages that are not compressed have no levels: %w", errors.ErrUnsupported)
		}
		return nil, nil
	default:
		return nil, fmt.Errorf("compress by %q: %w", c, errors.ErrUnsupported)
	}
	return p, nil
}
