// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"io"
)

// Signature is how a file begins that Remora knows but does not read.
type Signature struct {
	Name   string
	Header []byte
}

// File gives a file of size bytes that begins so.
func (s Signature) File(size int) []byte {
	b := make([]byte, max(size, len(s.Header)))
	copy(b, s.Header)
	return b
}

// Signatures gives the beginnings of the files that are no images, or images of a
// kind that is not read.
func Signatures() []Signature {
	le, be := binary.LittleEndian, binary.BigEndian
	all := []Signature{
		{"xz", []byte("\xfd7zXZ\x00\x00\x04")},
		{"zstd", []byte("\x28\xb5\x2f\xfd\x04\x58")},
		{"bzip2", []byte("BZh91AY&SY")},
		{"lz4", []byte("\x04\x22\x4d\x18\x64\x40\xa7")},
		{"LKCD", le.AppendUint64(nil, 0xa8190173618f23ed)},
		{"LKCD, old", le.AppendUint64(nil, 0xa8190173618f23cd)},
		{"LKCD, big-endian", be.AppendUint64(nil, 0xa8190173618f23ed)},
		{"s390", be.AppendUint64(nil, 0xa8190173618f23fd)},
		{"libvirt save", []byte("LibvirtQemudSave\x02\x00\x00\x00")},
		{"libvirt save, part", []byte("LibvirtQemudPart\x02\x00\x00\x00")},
		{"QEMU migration", []byte("QEVM\x00\x00\x00\x03")},
		{"SADUMP", []byte("sadump\x00\x00\x01\x00\x00\x00")},
		{"Windows, 64-bit", []byte("PAGEDU64\x0f\x00\x00\x00")},
		{"Windows, 32-bit", []byte("PAGEDUMP\x0f\x00\x00\x00")},
		{"qcow2", []byte("QFI\xfb\x00\x00\x00\x03")},
		{"gzip", gzipped([]byte("KDUMP   "))},
		{"LiME, compressed", zlibbed((&Physical{Runs: []Run{{0, 16, Saved}}}).LiME(LiMEOptions{}))},
	}
	for _, magic := range []uint32{0xbed0bed0, 0xbed2bed2, 0xbed3bed3, 0xbad1bad1, 0xbad2bad2} {
		all = append(all, Signature{"VMware state", le.AppendUint32(nil, magic)})
	}
	return all
}

func gzipped(b []byte) []byte {
	return packed(b, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
}

func zlibbed(b []byte) []byte {
	return packed(b, func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) })
}
