// SPDX-License-Identifier: Apache-2.0

// Package witness says what the witness processes of a laboratory guest hold, for the
// guest, which writes it, and for tests, which look for it.
package witness

import (
	"encoding/binary"
	"math/bits"
)

// Roles of witnesses.
const (
	RoleMain    = "main"    // a region of each kind; at times it spins in user mode
	RoleAreas   = "areas"   // 2,000 mappings of one page
	RoleThreads = "threads" // 16 threads, a long command line and environment
)

// Base is where the regions of a witness begin, and Stride how far apart they are. It
// is below 2^38, the user half of the smallest space (Sv39).
const (
	Base   = 0x10_0000_0000
	Stride = 0x1000_0000
)

// DataSize is the size of the disk "data", that the host fills with Fill(DataSeed).
const (
	DataSize = 1 << 20
	DataSeed = 0xda7a
)

// Kind is what a region is.
type Kind string

// Kinds of regions.
const (
	Anon       Kind = "anon"        // written pages; the first is the marker
	High       Kind = "high"        // written pages as far up as the page tables allow
	None       Kind = "none"        // written, then PROT_NONE
	BesideIt   Kind = "beside"      // written pages, neighbours of guard pages
	Guard      Kind = "guard"       // MADV_GUARD_INSTALL
	Untouched  Kind = "untouched"   // never touched
	Zero       Kind = "zero"        // read, never written: the shared zero page
	File       Kind = "file"        // a tmpfs file, shared, every page read
	FileUnread Kind = "file-unread" // the same file, shared, no page touched
	FileCopy   Kind = "file-copy"   // the same file, private, every page written
	Disk       Kind = "disk"        // the disk "data", shared, every page read
	DiskUnread Kind = "disk-unread" // the same disk, no page touched
	Shared     Kind = "shared"      // a file in /dev/shm that two witnesses have mapped
	Huge       Kind = "huge"        // MADV_HUGEPAGE, written, 2 MiB pages if the kernel had them
	HugeTLB    Kind = "hugetlb"     // MAP_HUGETLB, written
	Swapped    Kind = "swapped"     // written, then MADV_PAGEOUT
	Dropped    Kind = "dropped"     // written, then MADV_DONTNEED
	Area       Kind = "area"        // 2,000 mappings of one page, every tenth written
)

// Region is a range of a witness's memory.
type Region struct {
	Name  string `json:"name"` // unique in its witness
	Kind  Kind   `json:"kind"`
	Start uint64 `json:"start"`
	End   uint64 `json:"end"`           // the first after it
	Seed  uint64 `json:"seed"`          // Fill made its contents, if not 0
	Sum   string `json:"sum,omitempty"` // SHA-256 in hex of the contents, if they can be read without a change
}

// Report is what a witness says of itself.
type Report struct {
	Pid     int      `json:"pid"`
	Role    string   `json:"role"`
	Page    int      `json:"page"` // bytes
	Regions []Region `json:"regions"`
	Threads []int    `json:"threads"` // those it started and named, "thread-N" in order
}

// Find gives the first region of a kind.
func (r *Report) Find(k Kind) (Region, bool) {
	for _, g := range r.Regions {
		if g.Kind == k {
			return g, true
		}
	}
	return Region{}, false
}

// Marker is how the first page of the region Anon begins.
const Marker = "remora laboratory: the marker page\n"

// chunk is the unit of Fill's contents, whatever the page size.
const chunk = 4096

// Fill writes the contents that belong to seed, the same wherever they are. Of 8
// chunks of 4 KiB one is of zeros, one is text that shrinks well, and the rest are
// random and do not shrink at all.
func Fill(p []byte, seed uint64) {
	for i := 0; len(p) > 0; i++ {
		n := min(chunk, len(p))
		fillChunk(p[:n], mix(seed+uint64(i)*0x9e3779b97f4a7c15), i)
		p = p[n:]
	}
}

func fillChunk(p []byte, state uint64, i int) {
	switch i % 8 {
	case 3:
		clear(p)
	case 5:
		const line = "The quick brown fox jumps over the lazy dog. "
		for j := range p {
			p[j] = line[(j+i)%len(line)]
		}
	default:
		for len(p) >= 8 {
			state += 0x9e3779b97f4a7c15
			binary.LittleEndian.PutUint64(p, mix(state))
			p = p[8:]
		}
	}
}

// mix spreads the bits of x.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return bits.ReverseBytes64(x ^ x>>31)
}
