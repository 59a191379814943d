// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package processvm

import (
	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/difftest"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/memtest"
)

const (
	diffR  = remora.PermRead
	diffW  = remora.PermWrite
	diffX  = remora.PermExec
	diffRW = diffR | diffW
)

// diffKinds are the kinds that a layout is made of. A private alias is where it shows
// that elements are pinned, and so copied for writing, before the first byte of them
// is moved (R28).
var diffKinds = difftest.Kinds

// diffCopied says whether it is a private mapping of a shared piece.
func diffCopied(k *difftest.Kind) bool { return k.Alias && !k.Shared }

// diffTargets says whether it is only in a target. Memory that grows down is no caller's:
// its own stores let it grow, those of others do not (R47).
func diffTargets(k *difftest.Kind) bool { return k.Kind == specimen.GrowsDown || diffCopied(k) }

// diffOwnFault is why not even the specimen itself reaches it, whatever the protection.
func diffOwnFault(k *difftest.Kind) remora.Cause {
	if k.Kind == specimen.Secret {
		return 0
	}
	return k.Fault
}

// Besides those, some addresses are in no layout.
const (
	diffVdso   = len(diffKinds) + iota // code of the kernel's, to be read and executed
	diffVvar                           // its data, which no other process reaches
	diffNull                           // the first 64 KiB
	diffGap                            // side by side with a layout, and free
	diffTop                            // the last pages below the end of user addresses, and the first above
	diffOdd                            // between the halves
	diffKernel                         // the upper half
	diffEnd                            // the last pages of all
	diffElsewhere
	diffRows = diffElsewhere
)

var diffRowNames = [...]string{"vdso", "vvar", "first pages", "beside a layout", "end of user addresses",
	"not canonical", "kernel addresses", "last pages", "elsewhere"}

func diffRowName(row int) string {
	if row < len(diffKinds) {
		return diffKinds[row].String()
	}
	return diffRowNames[row-len(diffKinds)]
}

// diffCPU is what the processor lets the specimen itself do: it cannot keep anybody who
// may write from reading, nor who may execute, unless it has protection keys (R38).
func diffCPU(k *difftest.Kind, executeOnly bool) remora.Perm {
	if k.Perm != 0 && !(executeOnly && k.Perm == diffX) {
		return k.Perm | diffR
	}
	return k.Perm
}

// diffAllows says whether memory of this kind can be read, or written, up to the end of
// its file.
func diffAllows(k *difftest.Kind, v diffView, write, executeOnly bool) bool {
	perm, fault := k.Perm, k.Fault
	if v == diffOwn {
		perm, fault = diffCPU(k, executeOnly), diffOwnFault(k)
	}
	need := diffR
	if write {
		need = diffW
	}
	return fault == 0 && perm&need != 0
}

// diffView is one of the two ways to look at a process.
type diffView int

const (
	diffSeen diffView = iota // from another process, which heeds the mappings
	diffOwn                  // from itself, by loads and stores
	diffViews
)

// diffPiece is a run of pages of one kind.
type diffPiece struct {
	kind int // of diffKinds
	remora.Range
	size   uint64 // of its file, where that ends
	object int    // by number: pieces with the same bytes have the same one
	memory *memtest.Object
	first  []byte // what it holds at first, where Drop brings that back
}
