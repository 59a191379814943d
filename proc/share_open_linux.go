// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"strconv"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// learn finds out about the mapping at a, and maps its file here where that can be
// read in the target's place.
func (p *Process) learn(as *addressSpace, a remora.Addr) {
	t := &p.shared
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.find(a) != nil {
		return // another call was quicker
	}
	s := &share{was: linux.MapQuery{Addr: uint64(a), Flags: linux.QueryCoverNext}}
	switch linux.QueryMap(as.maps, &s.was) {
	case linux.OK:
		if uint64(a) < s.was.Start { // a hole
			s.was = linux.MapQuery{Start: uint64(a), End: s.was.Start}
		} else if s.was.VMAFlags&linux.VMAShared != 0 && s.was.Inode != 0 {
			p.mapShare(as, s)
		}
	case linux.ENOENT:
		s.was = linux.MapQuery{Start: uint64(a), End: uint64(remora.MaxAddr)}
	default:
		return
	}
	if s.was.Start < s.was.End {
		t.add(s)
	}
}

// mapShare maps the file of s. It leaves base 0 where that cannot be had, or where
// it could be told apart from a read of the target.
func (p *Process) mapShare(as *addressSpace, s *share) {
	if s.was.PageSize != uint64(p.info.Granule) || p.peculiar(as, s) {
		return
	}
	fd, ok := linux.OpenMapped(p.call, s.was.Start, s.was.End, s.was.Inode, s.was.DevMajor, s.was.DevMinor)
	if !ok {
		return
	}
	defer linux.Close(fd)
	st, errno := linux.StatFile(fd)
	if errno != 0 || !st.Regular || st.Inode != s.was.Inode || st.Size <= s.was.Offset {
		return
	}
	kind, errno := linux.FileSystemOf(fd)
	if errno != 0 || kind == linux.Secret {
		return
	}
	again := linux.MapQuery{Addr: s.was.Start}
	if linux.QueryMap(as.maps, &again) != 0 || again.Inode != s.was.Inode || again.Start != s.was.Start || again.End != s.was.End {
		return // the file that was opened may be another one
	}
	size := s.was.End - s.was.Start
	if size > uint64(^uintptr(0)>>2) {
		return // more than this build should give up of its own addresses
	}
	base, errno := linux.MapAt(0, size, linux.ProtRead, linux.MapShared|linux.MapNoReserve, fd, int64(s.was.Offset))
	if errno != 0 {
		return
	}
	page := uint64(p.info.Granule)
	s.base, s.calm = base, kind == linux.InMemory
	s.limit.Store(min(size, (st.Size-s.was.Offset+page-1)&^(page-1)))
}

// peculiar says whether a read of the target's own mapping may come to something
// else than its file: guard pages, or a userfaultfd.
func (p *Process) peculiar(as *addressSpace, s *share) bool {
	if as.scan {
		var found [1]linux.PageRegion
		n, _, errno := linux.ScanPages(as.pagemap, s.was.Start, s.was.End, linux.PageGuard, linux.PageGuard, found[:])
		if errno == 0 && n > 0 {
			return true
		}
	}
	f, err := os.Open(p.path("smaps"))
	if err != nil {
		return true
	}
	defer f.Close()
	for u, err := range ParseSmaps(f) {
		if err != nil {
			return true
		}
		if uint64(u.Start) == s.was.Start {
			return u.VmFlags&(VmUffdMissing|VmUffdMinor|VmUffdWP|VmIO|VmPFNMap) != 0
		}
	}
	return true
}

// sharedText says how shared mappings are read.
func (p *Process) sharedText() string {
	switch {
	case !p.opts.shares():
		return ""
	case !p.as.query:
		return "as all others: this kernel has no PROCMAP_QUERY"
	}
	p.shared.mu.RLock()
	defer p.shared.mu.RUnlock()
	n := 0
	for _, s := range p.shared.list {
		if s.base != 0 {
			n++
		}
	}
	text := "through " + strconv.Itoa(n) + " kept mappings"
	if p.opts.MapUnchecked {
		return text + ", blind to munmap, mprotect and mremap"
	}
	return text + ", each looked up after the copy"
}
