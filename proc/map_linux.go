// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"io"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// place is what the map of the target says about one address.
type place struct {
	state  placeState
	rng    remora.Range // the mapping, or the hole
	flags  uint64       // linux.VMARead and so on
	inode  uint64
	offset uint64 // of rng.Start in the file
	device bool   // it is known to be device memory of the kernel's
}

type placeState uint8

const (
	placeUnknown placeState = iota // the map cannot be read
	placeHole
	placeMapped
	placeGone
)

// scan is scratch for looking at maps, page tables and files.
type scan struct {
	regions [16]linux.PageRegion
	name    [64]byte
	text    [16 << 10]byte
	maps    file
}

// file reads a descriptor from its start, leaving its position alone.
type file struct {
	fd  int
	off uint64
}

func (f *file) Read(p []byte) (int, error) {
	n, errno := linux.Mem(false, f.fd, p, f.off)
	switch {
	case errno != 0:
		return 0, errno
	case n == 0 && len(p) > 0:
		return 0, io.EOF
	}
	f.off += uint64(n)
	return n, nil
}

func (r *run) scratch() *scan {
	if r.scan == nil {
		r.scan = new(scan)
	}
	return r.scan
}

// lookup asks what is mapped at a, now.
func (r *run) lookup(a remora.Addr) place {
	if !r.as.query {
		return r.lookupText(a)
	}
	q := linux.MapQuery{Addr: uint64(a), Flags: linux.QueryCoverNext}
	switch linux.QueryMap(r.as.maps, &q) {
	case linux.OK:
		if uint64(a) < q.Start {
			return place{state: placeHole, rng: remora.Between(a, remora.Addr(q.Start))}
		}
		return place{placeMapped, remora.Between(remora.Addr(q.Start), remora.Addr(q.End)), q.VMAFlags, q.Inode, q.Offset, false}
	case linux.ENOENT:
		return place{state: placeHole, rng: remora.Range{Start: a, Size: uint64(remora.MaxAddr-a) + 1}}
	case linux.ESRCH:
		return place{state: placeGone}
	}
	return place{}
}

// lookupText is lookup by reading the whole map, for kernels without PROCMAP_QUERY.
func (r *run) lookupText(a remora.Addr) place {
	if r.as.maps < 0 {
		return place{}
	}
	if !r.as.alive() {
		return place{state: placeGone}
	}
	sc := r.scratch()
	sc.maps = file{fd: r.as.maps}
	region, name, found, err := findRegion(&sc.maps, a, sc.text[:])
	switch {
	case err != nil:
		return place{}
	case !found:
		return place{state: placeHole, rng: region.Range}
	}
	return place{placeMapped, region.Range, vmaFlags(region), region.Inode, region.Offset, isDevice(name)}
}

func vmaFlags(region remora.Region) uint64 {
	flags := uint64(region.Perm) & (linux.VMARead | linux.VMAWrite | linux.VMAExec)
	if region.Shared {
		flags |= linux.VMAShared
	}
	return flags
}

// classify says why the byte at a could not be moved, and how far that goes: the
// range is empty where it is not known.
func (r *run) classify(a remora.Addr) (remora.Range, remora.Cause) {
	pl := r.lookup(a)
	switch pl.state {
	case placeGone:
		return remora.Range{}, remora.ErrGone
	case placeHole:
		return pl.rng, remora.ErrUnmapped
	case placeUnknown:
		return remora.Range{}, remora.ErrFault
	}
	if r.refuses(pl) {
		return pl.rng, remora.ErrProtected
	}
	if r.guarded(a) {
		return remora.Range{}, remora.ErrGuard
	}
	return remora.Range{}, r.backing(a, pl)
}

// refuses says whether the protection of a mapping forbids the operation (R35,
// R36), or with Force what a debugger may not do either: to write a read-only
// shared mapping (R66).
func (r *run) refuses(pl place) bool {
	need := uint64(linux.VMARead)
	if r.write() {
		need = linux.VMAWrite
	}
	if pl.flags&need != 0 {
		return false
	}
	return r.op&remora.Force == 0 || r.write() && pl.flags&linux.VMAShared != 0
}

// guarded says whether a lies in a guard page, which no map shows.
func (r *run) guarded(a remora.Addr) bool {
	if !r.as.scan {
		return false
	}
	page := uint64(r.p.info.Granule)
	start := uint64(a) &^ (page - 1)
	n, _, errno := linux.ScanPages(r.as.pagemap, start, start+page, linux.PageGuard, linux.PageGuard, r.scratch().regions[:1])
	return errno == 0 && n == 1
}

// backing tells apart what is wrong behind a mapping whose protection allows the
// operation.
func (r *run) backing(a remora.Addr, pl place) remora.Cause {
	if pl.inode == 0 {
		if pl.device || r.device(a) {
			return remora.ErrDevice
		}
		return remora.ErrFault
	}
	st, errno := linux.StatMapped(r.p.call, uint64(pl.rng.Start), uint64(pl.rng.Last())+1)
	page := uint64(r.p.info.Granule)
	switch {
	case errno != 0 || st.Inode != pl.inode:
		return remora.ErrFault
	case st.Device:
		return remora.ErrDevice
	case pl.offset+uint64(a-pl.rng.Start) >= (st.Size+page-1)&^(page-1):
		return remora.ErrBeyondEOF
	}
	return remora.ErrFault
}

// device says whether a lies in one of the kernel's own mappings of device memory
// or of raw page frames.
func (r *run) device(a remora.Addr) bool {
	if !r.as.query {
		return false
	}
	name := r.scratch().name[:]
	q := linux.MapQuery{Addr: uint64(a)}
	return linux.QueryMapName(r.as.maps, &q, name) == 0 && isDevice(name[:q.NameSize])
}

// isDevice says so by the name, as there is no file.
func isDevice(name []byte) bool { return bytes.HasPrefix(name, []byte("[vvar")) }
