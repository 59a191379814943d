// SPDX-License-Identifier: Apache-2.0

package play

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"os"

	"github.com/klauspost/compress/zlib"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// Klauspost gives what klauspost/compress does for the benchmark, by itself: its inflater with
// nothing but a look-up of where each page lies in a kdump-compressed image.
//
//	seq FILE RANGES    inflate the pages of ranges of physical memory
func Klauspost() map[string]Verb {
	return map[string]Verb{"seq": takes(2, inflateRanges)}
}

const kdumpPage = 4096

// kdump is an image that is mapped (see the header of makedumpfile).
type kdump struct {
	file   []byte
	saved  []byte   // the second bitmap: a bit for each page that has a descriptor
	before []uint32 // bits that are set before each 64 of them
	descs  []byte   // 24 bytes each: offset, size, flags

	src    bytes.Reader
	stream io.ReadCloser
	last   [1]byte
}

func openKdump(path string) (*kdump, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	at, errno := linux.MapAt(0, uint64(st.Size()), linux.ProtRead, linux.MapShared, int(f.Fd()), 0)
	if errno != 0 {
		return nil, fmt.Errorf("%s: %w", path, errno)
	}
	k := &kdump{file: linux.BytesAt(at, int(st.Size()))}
	word := func(off int) int { return int(binary.LittleEndian.Uint32(k.file[off:])) }
	if !bytes.HasPrefix(k.file, []byte("KDUMP   ")) || word(428) != kdumpPage {
		return nil, errors.Join(fmt.Errorf("%s is not compressed as kdump does, in pages of 4 KiB", path), k.close())
	}
	headers, bitmaps := (1+word(432))*kdumpPage, word(436)*kdumpPage
	k.saved, k.descs = k.file[headers+bitmaps/2:headers+bitmaps], k.file[headers+bitmaps:]
	k.before = make([]uint32, len(k.saved)/8+1)
	for i := range len(k.saved) / 8 {
		k.before[i+1] = k.before[i] + uint32(bits.OnesCount64(binary.LittleEndian.Uint64(k.saved[8*i:])))
	}
	return k, nil
}

func (k *kdump) close() error {
	linux.UnmapAt(linux.AddressOf(k.file), uint64(len(k.file)))
	return nil
}

// page fills p with a page. Those of zeros are left out of the image.
func (k *kdump) page(p []byte, number uint64) error {
	word, bit := binary.LittleEndian.Uint64(k.saved[number/64*8:]), uint64(1)<<(number%64)
	if word&bit == 0 {
		clear(p)
		return nil
	}
	d := k.descs[24*(int(k.before[number/64])+bits.OnesCount64(word&(bit-1))):]
	data := k.file[binary.LittleEndian.Uint64(d):][:binary.LittleEndian.Uint32(d[8:])]
	if binary.LittleEndian.Uint32(d[12:])&1 == 0 {
		copy(p, data)
		return nil
	}
	return k.inflate(p, data)
}

// inflate fills p, and looks at the checksum, which is that of the end of the stream.
func (k *kdump) inflate(p, data []byte) (err error) {
	k.src.Reset(data)
	if k.stream == nil {
		k.stream, err = zlib.NewReader(&k.src)
	} else {
		err = k.stream.(zlib.Resetter).Reset(&k.src, nil)
	}
	if err == nil {
		_, err = io.ReadFull(k.stream, p)
	}
	if err != nil {
		return err
	}
	if n, err := k.stream.Read(k.last[:]); err != io.EOF {
		return fmt.Errorf("behind a page come %d bytes more (%v)", n, err)
	}
	return nil
}

func inflateRanges(args []string) (*Work, error) {
	at, size, err := List(args[1])
	if err != nil {
		return nil, err
	}
	k, err := openKdump(args[0])
	if err != nil {
		return nil, err
	}
	s, buf := &spread{at: at}, used(uint64(size))
	s.by(func(a remora.Addr) error {
		for off := 0; off < size; off += kdumpPage {
			if err := k.page(buf[off:off+kdumpPage], uint64(a+remora.Addr(off))/kdumpPage); err != nil {
				return err
			}
		}
		return nil
	}, buf)
	return s.work(k.close), nil
}
