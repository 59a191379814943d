// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/remora-go/remora"
)

// anImage is what is wanted of a file.
const anImage = "a kernel image"

// headSize is how much of a file is looked at to find out what it is.
const headSize = 4096

// kind is a kind of file, known by how it begins.
type kind struct {
	format Format            // empty: it is not read here
	mark   string            // the first bytes
	match  func([]byte) bool // instead of mark
	name   string            // what it is
	advice string            // what to do about what is not read
}

const (
	limeMark   = "EMiL"
	avmlMark   = "AVML"
	avmlAdvice = "convert it with avml-convert"
)

const unpack = "unpack it first"

// kinds gives what is known, in the order to look through.
func kinds() []kind {
	return []kind{
		{format: ELF, mark: "\x7fELF"},
		{format: Kdump, mark: "KDUMP   "},
		{format: Kdump, mark: "DISKDUMP"},
		{format: LiME, mark: limeMark},
		{mark: avmlMark, name: "an image by AVML version 2, which is compressed", advice: avmlAdvice},

		{mark: "\x1f\x8b", name: "a file packed with gzip", advice: unpack},
		{mark: "\xfd7zXZ\x00", name: "a file packed with xz", advice: unpack},
		{mark: "\x28\xb5\x2f\xfd", name: "a file packed with zstd", advice: unpack},
		{mark: "BZh", name: "a file packed with bzip2", advice: unpack},
		{mark: "\x04\x22\x4d\x18", name: "a file packed with lz4", advice: unpack},
		{match: isPackedLiME, name: "LiME memory packed as one zlib stream (compress=1)", advice: "unpack it first, for instance with pigz -dz or zlib-flate -uncompress"},
		{mark: "LibvirtQemudSave", name: "what virsh save or virsh dump wrote", advice: "make the image with virsh dump --memory-only"},
		{mark: "LibvirtQemudPart", name: "an unfinished file of virsh save or virsh dump", advice: "make the image with virsh dump --memory-only"},
		{mark: "QEVM", name: "a migration stream of QEMU", advice: "make the image with dump-guest-memory"},
		{mark: "QFI\xfb", name: "a disk image (qcow2)", advice: "make an image of memory with dump-guest-memory"},
		{match: words64(0xa8190173618f23ed, 0xa8190173618f23cd), name: "an LKCD dump", advice: "this format is not read here"},
		{match: words64(0xa8190173618f23fd), name: "an s390 stand-alone dump", advice: "convert it to ELF with zgetdump"},
		{match: words32(0xbed0bed0, 0xbed2bed2, 0xbed3bed3, 0xbad1bad1, 0xbad2bad2), name: "the state of a VMware guest (.vmss, .vmsn)",
			advice: "memory is in the .vmem beside it, which can be opened as raw memory with a hole at 0xc0000000"},
		{mark: "sadu\x6d\x70\x00\x00", name: "a SADUMP file", advice: "convert it with makedumpfile"},
		{mark: "PAGEDU64", name: "a Windows dump", advice: "this is not a Linux kernel"},
		{mark: "PAGEDUMP", name: "a Windows dump", advice: "this is not a Linux kernel"},
	}
}

// kindOf says what a file that begins with head is, or nil.
func kindOf(head []byte) *kind {
	for _, k := range kinds() {
		if k.match != nil && k.match(head) || k.mark != "" && bytes.HasPrefix(head, []byte(k.mark)) {
			return &k
		}
	}
	return nil
}

// words64 matches a number of 8 bytes, in either byte order.
func words64(want ...uint64) func([]byte) bool {
	return func(b []byte) bool {
		return len(b) >= 8 && (slices.Contains(want, binary.LittleEndian.Uint64(b)) || slices.Contains(want, binary.BigEndian.Uint64(b)))
	}
}

// words32 matches a little-endian number of 4 bytes.
func words32(want ...uint32) func([]byte) bool {
	return func(b []byte) bool { return len(b) >= 4 && slices.Contains(want, binary.LittleEndian.Uint32(b)) }
}

// isPackedLiME unpacks the first bytes of a zlib stream.
func isPackedLiME(b []byte) bool {
	if len(b) < 2 || b[0]&0x0f != 8 || binary.BigEndian.Uint16(b)%31 != 0 {
		return false
	}
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return false
	}
	var mark [4]byte
	_, err = io.ReadFull(z, mark[:])
	return err == nil && string(mark[:]) == limeMark
}

// identify finds out what the file is that begins with head, and gives the reason. What is
// not read here is an error with advice.
func identify(s *source, head []byte) (Format, string, error) {
	k := kindOf(head)
	if k == nil {
		return "", "", s.unknown(head)
	}
	if k.format == "" {
		return "", "", s.bad(0, remora.ErrUnrecognized, anImage, k.name+": "+k.advice)
	}
	return k.format, "the file begins with " + strconv.Quote(k.mark), nil
}

// head reads the start of the file.
func (s *source) head() ([]byte, error) {
	if s.size == 0 {
		return nil, s.bad(0, remora.ErrUnrecognized, anImage, "an empty file")
	}
	head := make([]byte, min(headSize, s.size))
	return head, s.fill(head, 0, anImage)
}

// unknown is the error for a file that begins with nothing known. Raw memory is such a
// file too.
func (s *source) unknown(head []byte) error {
	got := fmt.Sprintf("a file that begins with %q", head[:min(len(head), 8)])
	if s.size >= 16<<20 && s.size%4096 == 0 {
		got += ", which by its size could be raw memory: if it is, say so with the format raw"
	}
	return s.bad(0, remora.ErrUnrecognized, anImage, got)
}
