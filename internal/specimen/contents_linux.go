// SPDX-License-Identifier: Apache-2.0

package specimen

import "github.com/remora-go/remora"

// contents gives what memory of that kind at r holds at first, up to what cannot be
// accessed by anybody. It is nil for a kind that has no contents of its own.
func contents(k Kind, r remora.Range, page, seed uint64) []byte {
	size := r.Size
	switch k {
	case Hole, Guard, Missing, Alias, PrivateAlias:
		return nil
	case FileEnd:
		size = min(size, page)
	case Untouched, ZeroPage, Reserved:
		return make([]byte, size)
	}
	p := make([]byte, size)
	if k == FileEnd {
		Pattern(p[:size-EndGap], r.Start, seed)
	} else {
		Pattern(p, r.Start, seed)
	}
	return p
}

// sum is what Sum gives for p: FNV-1a of 64 bits.
func sum(p []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range p {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
