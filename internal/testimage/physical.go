// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"encoding/binary"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
)

// Class says what an image knows of a page.
type Class uint8

// The classes. A page that is neither in Pages nor in Runs is a Hole.
const (
	Saved    Class = iota
	Excluded       // RAM that was filtered out
	Lost           // RAM that should have been saved, and was cut off
	Hole           // no RAM
)

func (c Class) String() string { return [...]string{"saved", "excluded", "lost", "hole"}[c] }

// Page is one page of physical memory. Data is nil for zeros.
type Page struct {
	Data  []byte
	Class Class
}

// Run is a number of pages of one class, zeros if they are saved. End is the first
// page frame number behind them.
type Run struct {
	First, End uint64
	Class      Class
}

// Physical is physical memory to be saved. Pages lie above Runs, which must be
// ascending and apart: a machine of many TiB is some runs and a few pages.
type Physical struct {
	PageSize int // 4096 when 0
	Pages    map[uint64]Page
	Runs     []Run
}

// Size is the size of a page in bytes.
func (p *Physical) Size() int {
	if p.PageSize == 0 {
		return 4096
	}
	return p.PageSize
}

// Set makes page pfn a saved one that begins with data.
func (p *Physical) Set(pfn uint64, data []byte) {
	if p.Pages == nil {
		p.Pages = make(map[uint64]Page)
	}
	page := make([]byte, p.Size())
	copy(page, data)
	p.Pages[pfn] = Page{Data: page}
}

// Mark gives count pages from pfn a class. They keep their bytes; a Hole takes
// them out of Pages.
func (p *Physical) Mark(pfn, count uint64, class Class) {
	if p.Pages == nil {
		p.Pages = make(map[uint64]Page)
	}
	for n := pfn; n < pfn+count; n++ {
		if class == Hole {
			delete(p.Pages, n)
			continue
		}
		p.Pages[n] = Page{Data: p.Pages[n].Data, Class: class}
	}
}

// Write puts b at a physical address. Pages that were not there are made, saved.
func (p *Physical) Write(addr uint64, b []byte) {
	size := uint64(p.Size())
	for len(b) > 0 {
		pfn := addr / size
		if page, ok := p.Pages[pfn]; !ok || page.Data == nil {
			p.Set(pfn, nil)
		}
		n := copy(p.Pages[pfn].Data[addr%size:], b)
		b, addr = b[n:], addr+uint64(n)
	}
}

// Put64 writes an 8-byte integer at a physical address.
func (p *Physical) Put64(addr, v uint64, order binary.ByteOrder) {
	var b [8]byte
	order.PutUint64(b[:], v)
	p.Write(addr, b[:])
}

// Page gives the bytes and the class of a page: a whole page of bytes for one that
// is saved, nil otherwise.
func (p *Physical) Page(pfn uint64) ([]byte, Class) {
	class := Hole
	page, ok := p.Pages[pfn]
	if ok {
		class = page.Class
	} else {
		i, found := slices.BinarySearchFunc(p.Runs, pfn, func(r Run, pfn uint64) int {
			switch {
			case r.End <= pfn:
				return -1
			case r.First > pfn:
				return 1
			}
			return 0
		})
		if found {
			class = p.Runs[i].Class
		}
	}
	if class != Saved {
		return nil, class
	}
	if page.Data != nil {
		return page.Data, Saved
	}
	return make([]byte, p.Size()), Saved
}

// PFNs gives the numbers of the pages in Pages, ascending.
func (p *Physical) PFNs() []uint64 { return slices.Sorted(maps.Keys(p.Pages)) }

// End is the first page frame number behind all RAM.
func (p *Physical) End() uint64 {
	var end uint64
	for r := range p.All() {
		end = r.End
	}
	return end
}

// All gives the memory from the bottom up: runs of one class, as long as they go,
// without the holes.
func (p *Physical) All() iter.Seq[Run] {
	return func(yield func(Run) bool) {
		var last Run
		for r := range p.pieces() {
			if r.First == last.End && r.Class == last.Class {
				last.End = r.End
				continue
			}
			if last.End > last.First && !yield(last) {
				return
			}
			last = r
		}
		if last.End > last.First {
			yield(last)
		}
	}
}

// RAM gives the memory from the bottom up: runs as long as they go, whatever their class.
func (p *Physical) RAM() []Run {
	var all []Run
	for r := range p.All() {
		if n := len(all); n > 0 && all[n-1].End == r.First {
			all[n-1].End = r.End
			continue
		}
		all = append(all, Run{First: r.First, End: r.End})
	}
	return all
}

// pieces gives Pages and what they leave of Runs, ascending.
func (p *Physical) pieces() iter.Seq[Run] {
	return func(yield func(Run) bool) {
		pfns := p.PFNs()
		single := func() bool {
			n := pfns[0]
			pfns = pfns[1:]
			return p.Pages[n].Class == Hole || yield(Run{n, n + 1, p.Pages[n].Class})
		}
		for _, r := range p.Runs {
			for r.First < r.End {
				if len(pfns) > 0 && pfns[0] <= r.First {
					if pfns[0] == r.First {
						r.First++
					}
					if !single() {
						return
					}
					continue
				}
				end := r.End
				if len(pfns) > 0 {
					end = min(end, pfns[0])
				}
				if r.Class != Hole && !yield(Run{r.First, end, r.Class}) {
					return
				}
				r.First = end
			}
		}
		for len(pfns) > 0 {
			if !single() {
				return
			}
		}
	}
}

// Random makes count pages of size bytes between page 0 and holes: runs of one to
// some dozen, saved ones of several kinds, filtered ones, and holes between them.
// Nothing is lost; see Mark. The same seed gives the same memory.
func Random(seed uint64, size, count int) *Physical {
	rng := rand.New(rand.NewPCG(seed, 0x72656d6f7261))
	p := &Physical{PageSize: size, Pages: make(map[uint64]Page)}
	for pfn := rng.Uint64N(3); len(p.Pages) < count; {
		run := min(1+rng.IntN(24), count-len(p.Pages))
		kind := rng.IntN(8)
		for range run {
			page := Page{}
			switch kind {
			case 0:
				page.Class = Excluded
			case 1: // zeros
			default:
				page.Data = randomPage(rng, size)
			}
			p.Pages[pfn] = page
			pfn++
		}
		if rng.IntN(3) == 0 {
			pfn += 1 + rng.Uint64N(40)
		}
		if rng.IntN(40) == 0 {
			pfn += 5000
		}
	}
	return p
}

// randomPage makes a page that compresses not at all, well, or in part.
func randomPage(rng *rand.Rand, size int) []byte {
	b := make([]byte, size)
	switch rng.IntN(5) {
	case 0: // noise
		fillNoise(rng, b)
	case 1: // pointers: the same high bytes again and again
		for i := 0; i < size; i += 8 {
			binary.LittleEndian.PutUint64(b[i:], 0xffff888000000000+rng.Uint64N(1<<30))
		}
	case 2: // text of few words
		words := []string{"kernel ", "page ", "table ", "of ", "the ", "fault\n", "0123456789abcdef"}
		for n := 0; n < size; {
			n += copy(b[n:], words[rng.IntN(len(words))])
		}
	case 3: // one byte
		fill := byte(1 + rng.IntN(255))
		for i := range b {
			b[i] = fill
		}
	default: // zeros with some noise
		start := rng.IntN(size)
		fillNoise(rng, b[start:min(size, start+1+rng.IntN(200))])
	}
	return b
}

func fillNoise(rng *rand.Rand, b []byte) {
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, rng.Uint64())
		b = b[8:]
	}
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}
