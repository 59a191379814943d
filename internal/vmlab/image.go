// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import "path/filepath"

// Format names an image of a moment.
type Format string

// What QEMU writes. Its kdump images are flattened. Not every QEMU has each codec.
const (
	ELF         Format = "elf"
	ELFPaging   Format = "elf-paging" // not of a machine with more than 1 GiB
	KdumpZlib   Format = "kdump-zlib"
	KdumpLZO    Format = "kdump-lzo"    // as ELFPaging
	KdumpSnappy Format = "kdump-snappy" // as ELFPaging
)

// RAM is the file that was the guest's memory: About.RAM says where what is in it.
const RAM Format = "ram"

// Swap is the guest's swap disk, as it was.
const Swap Format = "swap"

// Dump gives the path of an image. Nobody may write to it.
func (l *Lab) Dump(f Format) string { return filepath.Join(l.Dir, string(f)) }

// Truth gives what the guest said of itself.
func (l *Lab) Truth() *Truth {
	l.t.Helper()
	if l.truth == nil {
		var err error
		if l.truth, err = readTruth(l.Dump("truth.tar")); err != nil {
			l.t.Fatal(err)
		}
	}
	return l.truth
}

// Translations gives what QEMU made of 10,000 addresses on the processor About.CPU.
func (l *Lab) Translations() []Translation {
	l.t.Helper()
	all, err := readTranslations(l.Dump("gva2gpa"))
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}

// Has says whether there is such an image.
func (l *Lab) Has(f Format) bool { return exists(l.Dump(f)) }
