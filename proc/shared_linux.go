// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// share is what is known of one mapping of the target: that its file is mapped
// here too, or that it is not to be.
type share struct {
	was   linux.MapQuery // the target's mapping when this was made
	base  uint64         // of our mapping of the same part of the file; 0: none
	calm  bool           // a file in memory: its pages never wait for a device or a server
	limit atomic.Uint64  // bytes from was.Start; the file has no pages beyond
}

// holds says whether [a, a+n) lies within the mapping.
func (s *share) holds(a remora.Addr, n int) bool {
	return uint64(a) >= s.was.Start && uint64(a) < s.was.End && uint64(n) <= s.was.End-uint64(a)
}

// usable says whether [a, a+n) can be read through the share.
func (s *share) usable(a remora.Addr, n int, async bool) bool {
	return s.base != 0 && (s.calm || !async) && s.holds(a, n) && uint64(a)-s.was.Start+uint64(n) <= s.limit.Load()
}

// stands says whether the target still has that part of the file at [lo, hi], for
// reading. It is asked after a copy: nobody can then tell the copy from a read of
// the target.
func (s *share) stands(as *addressSpace, lo, hi remora.Addr) bool {
	q := linux.MapQuery{Addr: uint64(lo)}
	return linux.QueryMap(as.maps, &q) == 0 && q.End > uint64(hi) &&
		q.VMAFlags&(linux.VMARead|linux.VMAShared) == linux.VMARead|linux.VMAShared &&
		q.Inode == s.was.Inode && q.DevMajor == s.was.DevMajor && q.DevMinor == s.was.DevMinor &&
		q.Offset-q.Start == s.was.Offset-s.was.Start
}

const (
	sharesMax   = 256     // mappings known, shared or not
	missesStale = 1 << 12 // reads that no share could serve, until the table is thought stale
)

// shares is the table of what is known of the target's mappings. Those who copy
// hold mu for reading: nothing is unmapped meanwhile.
type shares struct {
	mu     sync.RWMutex
	list   []*share // by address, none overlapping
	misses atomic.Uint32
}

// find gives the share that holds a, or nil where nothing is known. The caller
// holds mu.
func (t *shares) find(a remora.Addr) *share {
	lo, hi := 0, len(t.list)
	for lo < hi {
		mid := (lo + hi) / 2
		if t.list[mid].was.End <= uint64(a) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo < len(t.list) && t.list[lo].was.Start <= uint64(a) {
		return t.list[lo]
	}
	return nil
}

// add puts s into the table, in place of what overlaps it. The caller holds mu for
// writing.
func (t *shares) add(s *share) {
	t.remove(func(old *share) bool { return old.was.Start < s.was.End && s.was.Start < old.was.End })
	if len(t.list) >= sharesMax {
		t.remove(func(*share) bool { return true })
	}
	at, _ := slices.BinarySearchFunc(t.list, s.was.Start, func(e *share, start uint64) int {
		if e.was.Start < start {
			return -1
		}
		return 1
	})
	t.list = slices.Insert(t.list, at, s)
}

func (t *shares) remove(which func(*share) bool) {
	t.list = slices.DeleteFunc(t.list, func(s *share) bool {
		if !which(s) {
			return false
		}
		if s.base != 0 {
			linux.UnmapAt(s.base, s.was.End-s.was.Start)
		}
		return true
	})
}

// drop forgets a share that no longer stands.
func (t *shares) drop(s *share) {
	t.mu.Lock()
	t.remove(func(old *share) bool { return old == s })
	t.mu.Unlock()
}

// missed counts a read that went the ordinary way. Now and then it forgets the
// mappings that are not shared, as others may have taken their place.
func (t *shares) missed() {
	if t.misses.Add(1)%missesStale == 0 {
		t.mu.Lock()
		t.remove(func(s *share) bool { return s.base == 0 })
		t.mu.Unlock()
	}
}

// close unmaps everything.
func (t *shares) close() {
	t.mu.Lock()
	t.remove(func(*share) bool { return true })
	t.mu.Unlock()
}
