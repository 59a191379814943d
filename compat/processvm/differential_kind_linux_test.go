// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package processvm

import (
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/memtest"
)

// diffKind is a kind of page: as a specimen has it, as others may access it, and as
// the specimen's own loads and stores may.
type diffKind struct {
	specimen.Kind
	name   string      // where it is not that of Kind
	perm   remora.Perm // of the mapping
	file   bool
	alias  bool         // of the shared piece before it
	cow    bool         // a private one
	shared bool         // its contents outlive Drop
	seen   remora.Cause // whatever the protection: nobody else reaches it
	own    remora.Cause // nor does the specimen itself
	change bool         // made by mprotect(2) from what Kind is
	drop   bool         // its pages may be taken away (MADV_DONTNEED) at any time
	remote bool         // only in a target
}

const (
	diffR  = remora.PermRead
	diffW  = remora.PermWrite
	diffX  = remora.PermExec
	diffRW = diffR | diffW
)

// diffKinds are the kinds that a layout is made of. A private alias is where it shows
// that elements are pinned, and so copied for writing, before the first byte of them
// is moved (R28). Memory that grows down is no caller's: its own stores let it grow,
// those of others do not (R47).
var diffKinds = [...]diffKind{
	{Kind: specimen.Hole, seen: remora.ErrUnmapped, own: remora.ErrUnmapped},
	{Kind: specimen.Touched, perm: diffRW},
	{Kind: specimen.Untouched, perm: diffRW, drop: true},
	{Kind: specimen.ZeroPage, perm: diffRW, drop: true},
	{Kind: specimen.NoAccess},
	{Kind: specimen.Reserved, drop: true},
	{Kind: specimen.ReadOnly, perm: diffR},
	{Kind: specimen.WriteOnly, perm: diffW},
	{Kind: specimen.ExecOnly, perm: diffX},
	{Kind: specimen.Locked, perm: diffRW},
	{Kind: specimen.Huge, perm: diffRW},
	{Kind: specimen.Guard, perm: diffRW, seen: remora.ErrGuard, own: remora.ErrGuard},
	{Kind: specimen.GrowsDown, perm: diffRW, remote: true},
	{Kind: specimen.Secret, perm: diffRW, seen: remora.ErrFault, shared: true},
	{Kind: specimen.Text, perm: diffR | diffX, file: true, drop: true},
	{Kind: specimen.PrivateFile, perm: diffRW, file: true},
	{Kind: specimen.UnreadFile, perm: diffRW, file: true, drop: true},
	{Kind: specimen.FileEnd, perm: diffRW, file: true},
	{Kind: specimen.SharedFile, perm: diffRW, file: true, shared: true},
	{Kind: specimen.SharedReadOnly, perm: diffR, file: true, shared: true},
	{Kind: specimen.SharedMemory, perm: diffRW, file: true, shared: true},
	{Kind: specimen.SharedMemory, name: "shared, dropped", perm: diffRW, file: true, shared: true, drop: true},
	{Kind: specimen.SharedMemory, name: "shared, no access", file: true, shared: true, change: true},
	{Kind: specimen.SharedMemory, name: "shared, write-only", perm: diffW, file: true, shared: true, change: true},
	{Kind: specimen.Alias, perm: diffRW, file: true, shared: true, alias: true, drop: true},
	{Kind: specimen.PrivateAlias, perm: diffRW, file: true, alias: true, cow: true, drop: true, remote: true},
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

func (k diffKind) String() string {
	if k.name != "" {
		return k.name
	}
	return k.Kind.String()
}

// canAlias says whether an alias may follow.
func (k *diffKind) canAlias() bool { return k.file && k.shared && !k.alias }

// cpu is what the processor lets the specimen itself do: it cannot keep anybody who
// may write, or execute, from reading (R38).
func (k *diffKind) cpu() remora.Perm {
	if k.perm != 0 {
		return k.perm | diffR
	}
	return 0
}

// allows says whether memory of this kind can be read, or written, up to the end of
// its file.
func (k *diffKind) allows(v diffView, write bool) bool {
	perm, fault := k.perm, k.seen
	if v == diffOwn {
		perm, fault = k.cpu(), k.own
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

func diffNumber(k specimen.Kind) int {
	for i := range diffKinds {
		if diffKinds[i].Kind == k {
			return i
		}
	}
	panic(fmt.Sprintf("no kind %v", k))
}
