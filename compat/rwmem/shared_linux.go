// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/proc"
)

// shortage says whether the system was short of memory.
func shortage(err error) bool { return errors.Is(err, linux.ENOMEM) }

// liveMaps writes shared mappings of a live process through a mapping of its own.
type liveMaps struct{ *proc.Process }

func liveShared(p *proc.Process) SharedWriter { return liveMaps{p} }

// WriteShared opens the mapped file for writing, which needs a capability, maps the
// page of a, and writes there: never beyond the end of the file, which does not grow.
func (l liveMaps) WriteShared(ctx context.Context, p []byte, a remora.Addr) (int, error) {
	r, err := l.mapping(ctx, a)
	if err != nil {
		return 0, err
	}
	path := fmt.Sprintf("/proc/%d/map_files/%x-%x", l.Pid(), uint64(r.Start), uint64(r.Last())+1)
	fd, errno := linux.Open(path, linux.RDWR)
	if errno != 0 {
		return 0, fmt.Errorf("%w: shared and read-only now; opening its file for writing: %w", remora.ErrProtected, errno)
	}
	defer linux.Close(fd)
	if st, errno := linux.StatFile(fd); errno != 0 || !st.Regular || st.Inode != r.Inode {
		return 0, fmt.Errorf("%w: shared and read-only now, and mapped from what is no file", remora.ErrProtected)
	}
	// Read through the process: the path was that of the same address space, if this
	// and the map after it agree.
	var b [1]byte
	if _, err := l.Memory().ReadAt(ctx, b[:], a); err != nil {
		return 0, err
	}
	if again, err := l.mapping(ctx, a); err != nil || again != r {
		return 0, errors.Join(remora.ErrFault, err)
	}
	return storeMapped(fd, r, p, a)
}

// mapping gives the shared region of a, if its maximum protection has write.
func (l liveMaps) mapping(ctx context.Context, a remora.Addr) (remora.Region, error) {
	const need = proc.VmRead | proc.VmMayShare | proc.VmMayWrite
	for u, err := range l.Usage(ctx) {
		switch {
		case err != nil:
			return remora.Region{}, err
		case u.Start > a:
			return remora.Region{}, remora.ErrUnmapped
		case !u.Contains(a):
		case u.VmFlags&need != need:
			return remora.Region{}, remora.ErrProtected
		default:
			return u.Region, nil
		}
	}
	return remora.Region{}, remora.ErrUnmapped
}

// storeMapped writes p at a into the file of r, through a mapping of the page.
func storeMapped(fd int, r remora.Region, p []byte, a remora.Addr) (int, error) {
	page := uint64(os.Getpagesize())
	in := uint64(a) & (page - 1)
	offset := r.Offset + uint64(a-r.Start) - in
	base, errno := linux.MapAt(0, page, linux.ProtRead|linux.ProtWrite, linux.MapShared, fd, int64(offset))
	if errno != 0 {
		return 0, fmt.Errorf("%w: shared and read-only now; mapping its file for writing: %w", remora.ErrProtected, errno)
	}
	defer linux.UnmapAt(base, page)
	if len(p) == 0 {
		return 0, nil
	}
	// By the kernel, for which a page beyond the end of the file is an error; a store of
	// our own would be the end of us.
	n, errno := linux.VMOne(true, os.Getpid(), p, base+in)
	switch {
	case errno == linux.EFAULT:
		return 0, remora.ErrBeyondEOF
	case errno != 0:
		return 0, errno
	case n < len(p):
		return n, remora.ErrFault
	}
	return n, nil
}
