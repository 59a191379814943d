// SPDX-License-Identifier: Apache-2.0

package specimen

import (
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/sys/linux"
)

// backing says what is behind a kind that is not anonymous.
type backing struct {
	open  func() (*os.File, error)
	prot  int
	flags int
	fill  how
}

// how says how such memory comes by what it holds.
type how uint8

const (
	byFile  how = iota // the file is written, and every page read
	unread             // the file is written
	byStore            // by stores to the memory
)

const readWrite = linux.ProtRead | linux.ProtWrite

var backings = map[Kind]backing{
	Text:           {unnamed, linux.ProtRead | linux.ProtExec, linux.MapPrivate, byFile},
	PrivateFile:    {unnamed, readWrite, linux.MapPrivate, byFile},
	UnreadFile:     {unnamed, readWrite, linux.MapPrivate, unread},
	FileEnd:        {unnamed, readWrite, linux.MapPrivate, byFile},
	SharedFile:     {unnamed, readWrite, linux.MapShared, byFile},
	SharedReadOnly: {unnamed, linux.ProtRead, linux.MapShared, byFile},
	SharedMemory:   {inMemory, readWrite, linux.MapShared, byFile},
	Secret:         {secret, readWrite, linux.MapShared, byStore},
}

// unnamed gives a file that has been deleted.
func unnamed() (*os.File, error) {
	f, err := os.CreateTemp("", "specimen")
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

func inMemory() (*os.File, error) {
	fd, errno := linux.Memfd("specimen")
	if errno != 0 {
		return nil, fail("memfd_create", errno)
	}
	return os.NewFile(uintptr(fd), "specimen"), nil
}

func secret() (*os.File, error) {
	fd, errno := linux.MemfdSecret()
	if errno != 0 {
		return nil, fail("memfd_secret", lacking(errno))
	}
	return os.NewFile(uintptr(fd), "secret"), nil
}

// file maps a new file at a.
func (m *memory) file(k Kind, b backing, a, size uint64) error {
	f, err := b.open()
	if err != nil {
		return err
	}
	if b.flags&linux.MapShared != 0 {
		m.shareable(f)
	} else {
		defer f.Close()
	}
	data := contents(k, remora.Range{Start: remora.Addr(a), Size: size}, m.page, m.seed)
	if k == FileEnd {
		data = data[:len(data)-EndGap]
	}
	if b.fill == byStore {
		err = f.Truncate(int64(size))
	} else {
		_, err = f.Write(data)
	}
	if err != nil {
		return err
	}
	_, errno := linux.MapAt(a, size, b.prot, b.flags|linux.MapFixed, int(f.Fd()), 0)
	if errno == linux.EPERM && k == Text { // the file system is mounted noexec
		b.open = inMemory
		return m.file(SharedMemory, b, a, size)
	}
	if errno != 0 {
		return fail("mmap of a file", errno)
	}
	return touch(func() {
		switch b.fill {
		case byStore:
			copy(linux.BytesAt(a, len(data)), data)
		case byFile:
			m.load(a, (uint64(len(data))+m.page-1)&^(m.page-1))
		}
	})
}

// shareable keeps f for aliases of it, in place of the file before it.
func (m *memory) shareable(f *os.File) {
	if m.shared != nil {
		m.shared.Close()
	}
	m.shared = f
}

// alias maps the file of the last shared piece once more, and touches none of it.
func (m *memory) alias(a, size uint64, flags int) error {
	if m.shared == nil {
		return fail("alias: nothing shared before it", linux.EINVAL)
	}
	_, errno := linux.MapAt(a, size, readWrite, flags|linux.MapFixed, int(m.shared.Fd()), 0)
	return fail("mmap of a file once more", errno)
}
