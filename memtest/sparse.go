// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"github.com/remora-go/remora"
)

// SparseOptions say what a Sparse claims to be. The zero value is a writable
// space of 4,096-byte pages that honours every op bit, up to address 2^64-1.
type SparseOptions struct {
	Name      string      // Info.Name; "sparse" when empty
	PageSize  uint32      // bytes, a power of two; 0: 4096
	PtrSize   uint8       // Info.PtrSize; 0: 8
	BigEndian bool        // Info.BigEndian
	Last      remora.Addr // Info.Last; 0: remora.MaxAddr
	ReadOnly  bool        // Info.Writable is its opposite
	Live      bool        // Info.Live
	Refuse    remora.Op   // bits to leave out of Info.Ops

	// ReadMaps makes a plain read of a page that was never touched bring it into
	// memory, as Linux does by mapping its page of zeros: Resident finds it from
	// then on. Without it a read leaves no trace.
	ReadMaps bool
}

// MapOptions describe a mapping.
type MapOptions struct {
	Perm   remora.Perm
	Shared bool    // writes go to Object; otherwise pages are copied on write
	Object *Object // nil: anonymous memory of zeros
	Offset uint64  // of the first byte in Object: a multiple of the page size
	Name   string  // Region.Name

	// Fault makes every page fault with this cause for accesses that the
	// protection lets through, Force included: remora.ErrGuard, ErrDevice,
	// ErrNotSaved and so on. 0 for memory.
	Fault remora.Cause
}

// Sparse is the reference address space: pages with permissions, shared and
// private mappings, memory that is zero until written, files with an end, and
// faults at any byte. It keeps the contract of remora.Space in the plainest way
// that can be written down; other spaces are compared with it. What is allowed
// where follows process_vm_readv(2) (R35-R46), and with Force /proc/PID/mem (R66).
//
// It is also a remora.Target and a remora.Mapper. All methods may be called
// concurrently.
type Sparse struct {
	opt SparseOptions
	mem *remora.Memory

	mu     sync.RWMutex // held through a Transfer, so Close waits for it
	closed bool
	maps   []mapping        // disjoint, in address order
	pages  map[uint64]*page // by page number: what this space has of its own
	slab   []byte           // memory for pages, not yet given out
	faults [2][]injected    // for reads and for writes, in address order
}

var (
	_ remora.Space  = (*Sparse)(nil)
	_ remora.Target = (*Sparse)(nil)
	_ remora.Mapper = (*Sparse)(nil)
)

// mapping is a run of pages, first to last byte.
type mapping struct {
	first, last remora.Addr
	MapOptions
}

// page is what a space holds for one of its pages.
type page struct {
	data    []byte // private contents; nil: the object's, or zeros
	present bool   // in this space's page table: what Resident asks
	next    *page  // the one behind it, if there is one
}

type injected struct {
	addr  remora.Addr
	cause remora.Cause
}

// NewSparse gives an empty address space; nil options are the zero options. It
// panics when the page size is not a power of two.
func NewSparse(o *SparseOptions) *Sparse {
	s := &Sparse{pages: map[uint64]*page{}}
	if o != nil {
		s.opt = *o
	}
	s.opt.Name = cmp.Or(s.opt.Name, "sparse")
	s.opt.PageSize = cmp.Or(s.opt.PageSize, 4096)
	s.opt.PtrSize = cmp.Or(s.opt.PtrSize, 8)
	s.opt.Last = cmp.Or(s.opt.Last, remora.MaxAddr)
	if s.opt.PageSize&(s.opt.PageSize-1) != 0 {
		panic(fmt.Sprintf("memtest: page size %d is not a power of two", s.opt.PageSize))
	}
	s.mem = remora.New(s)
	return s
}

// Memory gives the space as a remora.Memory.
func (s *Sparse) Memory() *remora.Memory { return s.mem }

// Close ends the space: it waits for calls that run, and later ones get
// fs.ErrClosed. The model methods go on working.
func (s *Sparse) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// Info gives the facts of the options. The Granule is the page size, or 1 once
// a fault has been injected, since those are at bytes.
func (s *Sparse) Info() remora.Info {
	s.mu.RLock()
	defer s.mu.RUnlock()
	granule := s.opt.PageSize
	if len(s.faults[0])+len(s.faults[1]) > 0 {
		granule = 1
	}
	return remora.Info{
		Name:      s.opt.Name,
		Ops:       s.ops(),
		PtrSize:   s.opt.PtrSize,
		BigEndian: s.opt.BigEndian,
		Granule:   granule,
		Last:      s.opt.Last,
		Writable:  !s.opt.ReadOnly,
		Live:      s.opt.Live,
	}
}

func (s *Sparse) ops() remora.Op {
	return (remora.StopAtFault | remora.Force | remora.Resident) &^ s.opt.Refuse
}

// Map maps r, in place of whatever was mapped there. r must be made of whole
// pages and end at or below Info.Last.
func (s *Sparse) Map(r remora.Range, o MapOptions) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	i, taken, err := s.place(r)
	if err != nil {
		return err
	}
	if taken {
		if err := s.unmap(r); err != nil {
			return err
		}
		i, _, _ = s.place(r)
	}
	if o.Shared && o.Object == nil {
		return fmt.Errorf("memtest: map %v: a shared mapping needs an Object", r)
	}
	if o.Offset%uint64(s.opt.PageSize) != 0 {
		return fmt.Errorf("memtest: map %v: offset 0x%x is not a multiple of the page size", r, o.Offset)
	}
	s.maps = slices.Insert(s.maps, i, mapping{r.Start, r.Last(), o})
	return nil
}

// place tells before which mapping r belongs, and whether any lies in it.
func (s *Sparse) place(r remora.Range) (i int, taken bool, err error) {
	if err := s.aligned(r); err != nil {
		return 0, false, err
	}
	i, _ = slices.BinarySearchFunc(s.maps, r.Start, func(m mapping, a remora.Addr) int { return cmp.Compare(m.last, a) })
	return i, i < len(s.maps) && s.maps[i].first <= r.Last(), nil
}

// Unmap takes away what is mapped in r, whole pages; there need be nothing.
func (s *Sparse) Unmap(r remora.Range) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.unmap(r)
}

// Protect changes the permissions of r, whole pages, all of which must be mapped.
func (s *Sparse) Protect(r remora.Range, perm remora.Perm) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.aligned(r); err != nil {
		return err
	}
	var mapped uint64
	for i := range s.maps {
		mapped += remora.Range{Start: s.maps[i].first, Size: s.maps[i].size()}.Intersect(r).Size
	}
	if mapped != r.Size {
		return fmt.Errorf("memtest: protect %v: %w", r, remora.ErrUnmapped)
	}
	s.cut(r)
	for i := range s.maps {
		if r.Contains(s.maps[i].first) {
			s.maps[i].Perm = perm
		}
	}
	return nil
}

// Inject makes the byte at a fault with cause for one direction, remora.Read or
// remora.Write, whatever else holds there. Cause 0 takes the fault away.
func (s *Sparse) Inject(a remora.Addr, op remora.Op, cause remora.Cause) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := &s.faults[op&remora.Write]
	i, found := slices.BinarySearchFunc(*list, a, byAddr)
	if found {
		*list = slices.Delete(*list, i, i+1)
	}
	if cause != 0 {
		*list = slices.Insert(*list, i, injected{a, cause})
	}
}

func byAddr(f injected, a remora.Addr) int { return cmp.Compare(f.addr, a) }

// Regions lists the mappings. Objects get inodes 1, 2, ... in address order.
func (s *Sparse) Regions(ctx context.Context) iter.Seq2[remora.Region, error] {
	s.mu.RLock()
	maps := slices.Clone(s.maps)
	s.mu.RUnlock()
	return func(yield func(remora.Region, error) bool) {
		inodes := map[*Object]uint64{nil: 0}
		for _, m := range maps {
			if err := ctx.Err(); err != nil {
				yield(remora.Region{}, err)
				return
			}
			r := remora.Region{Range: remora.Range{Start: m.first, Size: m.size()}, Perm: m.Perm, Shared: m.Shared, Name: m.Name, Offset: m.Offset}
			if _, known := inodes[m.Object]; !known {
				inodes[m.Object] = uint64(len(inodes))
			}
			r.Inode = inodes[m.Object]
			if !yield(r, nil) {
				return
			}
		}
	}
}

// size is that of a mapping in bytes. A mapping of all 2^64 cannot be made.
func (m *mapping) size() uint64 { return uint64(m.last-m.first) + 1 }

func (s *Sparse) aligned(r remora.Range) error {
	mask := uint64(s.opt.PageSize) - 1
	switch {
	case r.Empty():
		return fmt.Errorf("memtest: %v: empty range", r)
	case (uint64(r.Start)|r.Size)&mask != 0:
		return fmt.Errorf("memtest: %v: not whole pages", r)
	case r.Start+remora.Addr(r.Size-1) < r.Start:
		return fmt.Errorf("memtest: %v: past the last address", r)
	case r.Last() > s.opt.Last:
		return fmt.Errorf("memtest: %v: %w", r, errBeyondLast)
	}
	return nil
}

var errBeyondLast = errors.New("beyond Info.Last")

func (s *Sparse) unmap(r remora.Range) error {
	if err := s.aligned(r); err != nil {
		return err
	}
	s.cut(r)
	s.maps = slices.DeleteFunc(s.maps, func(m mapping) bool { return r.Contains(m.first) })
	for no := range s.pages {
		if r.Contains(remora.Addr(no * uint64(s.opt.PageSize))) {
			delete(s.pages, no)
			if before := s.pages[no-1]; before != nil {
				before.next = nil
			}
		}
	}
	return nil
}

// cut splits mappings so that none lies partly in r.
func (s *Sparse) cut(r remora.Range) {
	var parts []mapping
	for _, m := range s.maps {
		if in := (remora.Range{Start: m.first, Size: m.size()}).Intersect(r); in.Empty() {
			parts = append(parts, m)
			continue
		}
		if m.first < r.Start {
			parts = append(parts, m.part(m.first, r.Start-1))
		}
		parts = append(parts, m.part(max(m.first, r.Start), min(m.last, r.Last())))
		if m.last > r.Last() {
			parts = append(parts, m.part(r.Last()+1, m.last))
		}
	}
	s.maps = parts
	s.sort()
}

func (m mapping) part(first, last remora.Addr) mapping {
	m.Offset += uint64(first - m.first)
	m.first, m.last = first, last
	return m
}

func (s *Sparse) sort() {
	slices.SortFunc(s.maps, func(a, b mapping) int { return cmp.Compare(a.first, b.first) })
}

// find gives the mapping that holds a, or nil.
func (s *Sparse) find(a remora.Addr) *mapping {
	i, found := slices.BinarySearchFunc(s.maps, a, func(m mapping, a remora.Addr) int {
		switch {
		case m.last < a:
			return -1
		case m.first > a:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return &s.maps[i]
}
