// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"debug/elf"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// format is one way to keep physical memory in files: what an Image asks of it. It is
// used from many goroutines at once.
type format interface {
	// Mover moves physical memory. It honours no op bits but Write, and that only when
	// writable says so.
	xfer.Mover

	// run gives a run with one answer that holds a: what is saved, and what is not, and
	// why. It may read tables of the file, but no pages; it may end early, and callers
	// merge.
	run(a remora.Addr) Run

	// explain adds to cause, met at a, where in the file the byte is or would be.
	explain(a remora.Addr, cause error) error

	// describe fills in what the format knows of the image.
	describe(m *Meta)

	// check looks at all that the file holds, on all processors, and reports all that
	// is damaged. It ends early when ctx does.
	check(ctx context.Context, report func(*remora.FormatError)) error

	writable() bool
	granule() uint32
	close() error
}

// Run is a run of physical addresses with one answer.
type Run struct {
	remora.Range
	Err    error  // nil: saved. Otherwise one of the causes above: see the package comment
	Zeros  bool   // saved, but known to be zeros without a look at the file
	File   string // the file that holds it, or should
	Offset int64  // of Start in File where the bytes lie there as they are; -1 otherwise
	// Rest says that the run is all addresses that the image should have named and does not:
	// they are lost, and how much memory was there is not known.
	Rest bool
}

// Meta is what an image says of itself.
type Meta struct {
	Format    Format
	Reason    string      // why it was taken for this format
	Maker     string      // "makedumpfile", "QEMU", "the kernel (/proc/vmcore)", or empty
	Machine   elf.Machine // EM_NONE when the image does not say
	WordSize  int         // bytes in a word of the machine; 0 when not known
	BigEndian bool
	PageSize  int // bytes; 0 when the image does not say
	Version   int // of the format, -1 when it has none
	Level     int // dump level, a sum of the bits of makedumpfile(8) -d; -1 when not known
	Codecs    []string
	Flags     []string  // the status as the image has it: "incomplete", "zlib"
	Problems  []error   // what is damaged or cut off, and was passed over
	Uname     [6]string // sysname, nodename, release, version, machine, domainname
	Time      time.Time // of the dump; zero when not known
	Parts     []Part

	VMCoreInfo []byte // the text of the note, nil when there is none
	CPUs       []CPU  // in the order of the notes
	Notes      []Note
	PhysBase   uint64 // a hint only: QEMU writes a wrong one
	HasBase    bool
}

// Part is one file of an image.
type Part struct {
	File  string
	Size  int64
	Pages remora.Range // of physical memory that this part is to hold; the whole in a single file
	Flat  bool         // flattened
}

// Note is one ELF note of the image.
type Note struct {
	Owner  string
	Type   uint32
	Offset int64  // of the descriptor in the file
	Size   uint32 // of the descriptor, in bytes
	Desc   []byte // nil where it is larger than 1 MiB, or all together are than 64 MiB
}

// CPU is what an image has saved of a processor.
type CPU struct {
	Index  int
	PID    int               // of the task that ran, as NT_PRSTATUS says
	Regs   map[string]uint64 // by the names that gdb uses, and "cr0".."cr4" of QEMU's note
	Source string            // "NT_PRSTATUS", "QEMU"
}
