// SPDX-License-Identifier: Apache-2.0

package specimen

import (
	"encoding/binary"
	"fmt"

	"github.com/remora-go/remora"
)

// Kind is a kind of memory.
type Kind uint8

// The kinds. Unless it says otherwise the memory is private and anonymous, can be
// read and written, holds its Pattern, and is present in the page table.
const (
	Hole      Kind = iota // nothing at all; only in a Layout
	Touched               // the ordinary kind
	Untouched             // never accessed: zeros, no page is present
	ZeroPage              // only read: zeros, every page is the shared zero page
	NoAccess              // PROT_NONE
	Reserved              // PROT_NONE, and never accessed
	ReadOnly
	WriteOnly
	ExecOnly
	Locked   // mlock(2)
	Huge     // transparent huge pages asked for; begins on a multiple of 2 MiB
	Guard    // guard pages (MADV_GUARD_INSTALL, Linux 6.13) that the map does not show
	PagedOut // in swap space, until it is accessed; unsupported where there is none
	HugeTLB  // pages of the pool of huge pages; of multiples of HugePage bytes, at such an address; unsupported where it is empty
	GrowsDown
	Missing // accesses wait for Resolve (userfaultfd); Peek, Poke and Sum must not touch it
	Secret  // memfd_secret(2)

	Text           // a file, private, to be read and executed
	PrivateFile    // a file, private; every page has been read
	UnreadFile     // a file, private, never accessed: no page is present
	SharedFile     // a file, shared
	SharedReadOnly // a file, shared, not to be written
	SharedMemory   // a file in memory (memfd_create), shared
	FileEnd        // like PrivateFile, but the file ends EndGap bytes before the end of the first page

	Alias        // only in a Layout: the file of the shared piece before it, shared, from its start
	PrivateAlias // the same, private
)

// HugePage is the size of a huge page, in bytes.
const HugePage = 2 << 20

// EndGap is how many bytes the file of a FileEnd is short of its first page. They are
// zeros; the pages after the first are beyond the end of the file.
const EndGap = 96

var kindNames = [...]string{
	Hole: "hole", Touched: "touched", Untouched: "untouched", ZeroPage: "zero page", NoAccess: "no access",
	Reserved: "reserved", ReadOnly: "read-only", WriteOnly: "write-only", ExecOnly: "execute-only", Locked: "locked",
	Huge: "huge", Guard: "guard", PagedOut: "paged out", HugeTLB: "huge page of the pool", GrowsDown: "grows down", Missing: "missing", Secret: "secret",
	Text: "text", PrivateFile: "private file", UnreadFile: "unread file", SharedFile: "shared file",
	SharedReadOnly: "shared read-only file", SharedMemory: "shared memory", FileEnd: "end of file",
	Alias: "alias", PrivateAlias: "private alias",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Piece is some pages of one kind.
type Piece struct {
	Kind  Kind
	Pages int
}

// Pattern fills p with what the memory at a holds at first: a function of the
// address and the seed alone.
func Pattern(p []byte, a remora.Addr, seed uint64) {
	var word [8]byte
	for len(p) > 0 {
		at := uint64(a) & 7
		if at == 0 && len(p) >= 8 {
			binary.LittleEndian.PutUint64(p, mix(uint64(a), seed))
			p, a = p[8:], a+8
			continue
		}
		binary.LittleEndian.PutUint64(word[:], mix(uint64(a)-at, seed))
		n := copy(p, word[at:])
		p, a = p[n:], a+remora.Addr(n)
	}
}

// mix is the output function of SplitMix64.
func mix(a, seed uint64) uint64 {
	z := a + seed*0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
