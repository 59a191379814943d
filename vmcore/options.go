// SPDX-License-Identifier: Apache-2.0

package vmcore

import "github.com/remora-go/remora"

// Format is a format of files.
type Format string

// The formats. A flattened stream or a split set is no format of its own: see Meta.Parts.
const (
	ELF   Format = "elf"   // /proc/vmcore, makedumpfile -E, QEMU's dump-guest-memory
	Kdump Format = "kdump" // kdump-compressed, also called diskdump
	LiME  Format = "lime"
	AVML  Format = "avml"
	Raw   Format = "raw"
	Kcore Format = "kcore" // /proc/kcore, the memory of the running system: see OpenKcore
)

// Options say how an image is opened. Nil is the same as the zero Options.
type Options struct {
	// Format is the format to take the file for; empty: find out by its content. Raw
	// memory has no mark of its own, and is only taken for it when this says so.
	Format Format

	// Parts are the other files of a split set, in any order.
	Parts []string

	// Write opens for writing in place, which ELF, LiME and raw images can do. To
	// change another, lay a compose.Overlay over it, and have Write make an image of
	// that: see Content.
	Write bool

	// ZeroExcluded reads what the maker of the image left out as zeros.
	ZeroExcluded bool

	// CacheBytes bounds the memory in which inflated pages are kept; 0: 64 MiB.
	CacheBytes int

	// Base is the physical address of the first byte of a raw image, and Hole one run of
	// addresses that it skips. Segments says all of it instead: runs of physical
	// addresses in the order of the file.
	Base     remora.Addr
	Hole     remora.Range
	Segments []remora.Range

	// NoMap never maps a file into memory, and reads it with system calls only.
	NoMap bool
}
