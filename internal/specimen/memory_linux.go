// SPDX-License-Identifier: Apache-2.0

package specimen

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"os"
	"runtime"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// memory is what a specimen has mapped, of its own memory.
type memory struct {
	seed, page uint64
	next       uint64         // where the next layout goes
	all        []remora.Range // every layout
	fault      int            // a userfaultfd, or -1
	shared     *os.File       // of the last shared piece of the layout that is being made
	loaded     byte           // keeps load from being optimized away
}

// base is where layouts begin: far from the program, its heap, and where the system
// puts what has no address of its own.
const base = 0x50000000 << (7 * (bits.UintSize / 64))

// apart is how many pages are left free before and after a layout: more than the
// kernel leaves below a stack (stack_guard_gap: 256), and of a multiple of 2 MiB.
const apart = 512

func newMemory(seed uint64) *memory {
	return &memory{seed: seed, page: uint64(os.Getpagesize()), next: base, fault: -1}
}

// reset unmaps everything.
func (m *memory) reset() error {
	for _, r := range m.all {
		if m.fault >= 0 { // whoever waits goes on
			linux.UserFaultUnregister(m.fault, uint64(r.Start), r.Size)
		}
		if err := fail("munmap", linux.UnmapAt(uint64(r.Start), r.Size)); err != nil {
			return err
		}
	}
	m.all, m.next = nil, base
	return nil
}

// layout maps pieces side by side and gives the address of the first.
func (m *memory) layout(a uint64, pieces []Piece) (uint64, error) {
	var size uint64
	for _, p := range pieces {
		size += uint64(p.Pages) * m.page
	}
	a, err := m.reserve(a, size)
	if err != nil {
		return 0, err
	}
	defer m.shareable(nil)
	at := a
	for _, p := range pieces {
		n := uint64(p.Pages) * m.page
		if err := m.piece(p.Kind, at, n); err != nil {
			linux.UnmapAt(a, size)
			return 0, err
		}
		at += n
	}
	m.all = append(m.all, remora.Range{Start: remora.Addr(a), Size: size})
	return a, nil
}

// reserve maps a run of addresses without memory, at a or, if that is 0, apart from
// all that is there.
func (m *memory) reserve(a, size uint64) (uint64, error) {
	const flags = linux.MapPrivate | linux.MapAnonymous | linux.MapNoReserve | linux.MapFree
	if a != 0 {
		_, errno := linux.MapAt(a, size, linux.ProtNone, flags, -1, 0)
		return a, fail("mmap at an address", errno)
	}
	for range 100 {
		a = m.next + apart*m.page
		m.next = (a + size + HugePage - 1) &^ (HugePage - 1)
		at, errno := linux.MapAt(a, size, linux.ProtNone, flags, -1, 0)
		switch {
		case errno == 0 && at == a:
			return a, nil
		case errno == 0: // a kernel before 4.17 takes the address for a wish
			linux.UnmapAt(at, size)
		case errno != linux.EEXIST:
			return 0, fail("mmap", errno)
		}
	}
	return 0, fail("mmap: no room", linux.ENOMEM)
}

// piece maps memory of one kind over what is reserved.
func (m *memory) piece(k Kind, a, size uint64) error {
	if b, ok := backings[k]; ok {
		return m.file(k, b, a, size)
	}
	switch k {
	case Hole:
		return fail("munmap", linux.UnmapAt(a, size))
	case Alias:
		return m.alias(a, size, linux.MapShared)
	case PrivateAlias:
		return m.alias(a, size, linux.MapPrivate)
	}
	if int(k) >= len(kindNames) {
		return fail(k.String(), linux.EINVAL)
	}
	flags := linux.MapPrivate | linux.MapAnonymous | linux.MapFixed
	if k == GrowsDown {
		flags |= linux.MapGrowsDown
	}
	if k == HugeTLB {
		if (a|size)%HugePage != 0 {
			return fail(k.String(), linux.EINVAL)
		}
		flags |= linux.MapHugeTLB
	}
	_, errno := linux.MapAt(a, size, linux.ProtRead|linux.ProtWrite, flags, -1, 0)
	if errno == linux.ENOMEM && k == HugeTLB {
		errno = linux.ENOTSUP
	}
	if errno != 0 {
		return fail("mmap", errno)
	}
	advice := linux.AdviseNoHugePage
	if k == Huge {
		advice = linux.AdviseHugePage
	}
	linux.Advise(a, size, advice) // EINVAL where the kernel has no huge pages
	if err := m.first(k, a, size); err != nil {
		return err
	}
	return m.finish(k, a, size)
}

// first makes the pages present, with what they hold.
func (m *memory) first(k Kind, a, size uint64) error {
	return touch(func() {
		switch k {
		case Untouched, Reserved, Missing:
		case ZeroPage:
			m.load(a, size)
		default:
			Pattern(linux.BytesAt(a, int(size)), remora.Addr(a), m.seed)
		}
	})
}

// load loads a byte of every page.
func (m *memory) load(a, size uint64) {
	p := linux.BytesAt(a, int(size))
	for i := uint64(0); i < size; i += m.page {
		m.loaded |= p[i]
	}
}

// finish does what is left to do to pages with contents.
func (m *memory) finish(k Kind, a, size uint64) error {
	switch k {
	case NoAccess, Reserved:
		return fail("mprotect", linux.ProtectAt(a, size, linux.ProtNone))
	case ReadOnly:
		return fail("mprotect", linux.ProtectAt(a, size, linux.ProtRead))
	case WriteOnly:
		return fail("mprotect", linux.ProtectAt(a, size, linux.ProtWrite))
	case ExecOnly:
		return fail("mprotect", linux.ProtectAt(a, size, linux.ProtExec))
	case Locked:
		return fail("mlock", linux.LockAt(a, size))
	case Guard:
		return fail("MADV_GUARD_INSTALL", lacking(linux.Advise(a, size, linux.AdviseGuardInstall)))
	case PagedOut:
		return m.pageOut(a, size)
	case Missing:
		return m.register(a, size)
	}
	return nil
}

// mostCPUs is more processors than any machine has that this is for.
const mostCPUs = 1024

// pageOut moves pages to swap space, and is not content with less than all. The kernel
// does not find those that a processor has on a list of its own still, and empties only
// that of the one on which the call is made: so it is made on each.
func (m *memory) pageOut(a, size uint64) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer linux.Place(0)
	rounds := 3
	if swaps() {
		rounds = 300
	}
	for try := range rounds * mostCPUs {
		if try > 0 && try%mostCPUs == 0 {
			time.Sleep(5 * time.Millisecond) // a page that is being written is passed over
		}
		if linux.Place(0, try%mostCPUs) != nil {
			continue // there is none of that number for us
		}
		if errno := linux.Advise(a, size, linux.AdvisePageOut); errno != 0 {
			return fail("MADV_PAGEOUT", lacking(errno))
		}
		if out, errno := m.pagedOut(a, size); out || errno != 0 {
			return fail("pagemap", errno)
		}
	}
	return fail("page out", linux.ENOTSUP)
}

// swaps says whether there is swap space at all.
func swaps() bool {
	text, err := os.ReadFile("/proc/swaps")
	return err == nil && bytes.Count(text, []byte("\n")) > 1
}

// pagedOut says whether all pages are in swap space.
func (m *memory) pagedOut(a, size uint64) (bool, linux.Errno) {
	const swapped = 1 << 62                                            // Documentation/admin-guide/mm/pagemap.rst
	fd, errno := linux.Open("/proc/thread-self/pagemap", linux.RDONLY) // the first thread may have ended
	if errno != 0 {
		return false, errno
	}
	defer linux.Close(fd)
	entries := make([]byte, size/m.page*8)
	n, errno := linux.Mem(false, fd, entries, a/m.page*8)
	if errno != 0 || n < len(entries) {
		return false, errno
	}
	for i := 0; i < n; i += 8 {
		if binary.NativeEndian.Uint64(entries[i:])&swapped == 0 {
			return false, 0
		}
	}
	return true, 0
}

func (m *memory) register(a, size uint64) error {
	if m.fault < 0 {
		fd, errno := linux.UserFault()
		if errno != 0 {
			return fail("userfaultfd", lacking(errno))
		}
		m.fault = fd
	}
	return fail("UFFDIO_REGISTER", linux.UserFaultRegister(m.fault, a, size))
}

// waiter gives the next access that waits.
func (m *memory) waiter() (reply, error) {
	if m.fault < 0 {
		return reply{}, nil
	}
	a, write, errno := linux.UserFaultNext(m.fault)
	switch {
	case errno == linux.EAGAIN:
		return reply{}, nil
	case errno != 0:
		return reply{}, fail("userfaultfd", errno)
	case write:
		return reply{value: a, second: 3}, nil
	}
	return reply{value: a, second: 2}, nil
}

// lacking turns the errors of a kernel, or of rights, that cannot do a thing into
// ENOTSUP.
func lacking(errno linux.Errno) linux.Errno {
	switch errno {
	case linux.EINVAL, linux.EPERM, linux.ENOSYS, linux.ENOTTY:
		return linux.ENOTSUP
	}
	return errno
}

// prot gives the protection of permissions.
func prot(perm remora.Perm) int {
	p := linux.ProtNone
	if perm&remora.PermRead != 0 {
		p |= linux.ProtRead
	}
	if perm&remora.PermWrite != 0 {
		p |= linux.ProtWrite
	}
	if perm&remora.PermExec != 0 {
		p |= linux.ProtExec
	}
	return p
}
