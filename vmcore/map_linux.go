// SPDX-License-Identifier: Apache-2.0

// Where it is known that SIGBUS tells the exact address; s390x gives that of the page,
// and 32 bits are too few for large files.
//go:build amd64 || arm64 || riscv64

package vmcore

import (
	"os"
	"runtime/debug"

	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/xfer"
)

// mapped reads a file through a mapping of it, as far as that is safe.
//
// A file that is cut off while it is mapped has two ends to look out for. Behind the page
// with its new end, the mapping gives SIGBUS, which ReadAt turns into a system call: that
// one knows where the file ends. In that page itself, the rest of the page turns into
// zeros without a word. So every copy ends with a look at the last page, which is there
// unless the file ends before it. What is in the last page is never read through the
// mapping.
type mapped struct {
	file *os.File
	data []byte // the whole file; its last page is only touched
	safe int64  // the start of the last page
}

// foreign are the file systems whose pages may change or vanish without a system call
// of this machine, or cost more than a read (linux/magic.h, and the file systems' own).
func foreign(magic uint32) bool {
	switch magic {
	case 0x6969, // NFS
		0x517b, 0xff534d42, 0xfe534d42, // SMB, CIFS, SMB2
		0x65735546,             // FUSE
		0x01021997,             // 9p
		0x00c36400,             // Ceph
		0x5346414f, 0x6b414653, // AFS
		0x73757245, 0x564c, // Coda, NCP
		0x7461636f, 0x01161970, // OCFS2, GFS2
		0x0bd00bd0, 0x47504653, 0x19830326, 0xaad7aaea, // Lustre, GPFS, BeeGFS, PanFS
		0x786f4256, 0xbacbacbc, 0x7c7c6673, // folders of VirtualBox, VMware, Parallels
		0x958458f6,                                 // hugetlbfs, which maps huge pages only
		0x9fa0, 0x62656572, 0x64626720, 0x74726163: // proc, sysfs, debugfs, tracefs
		return true
	}
	return false
}

// tmpfs is the file system whose files are made of memory. A load from a hole in one of
// them fills the hole, and takes memory for good.
const tmpfs = 0x01021994

// mappable says whether it is safe to map the file.
func mappable(fd int) bool {
	magic, errno := linux.FileSystemMagic(fd)
	if errno != linux.OK || foreign(magic) {
		return false
	}
	if magic != tmpfs {
		return true
	}
	st, errno := linux.StatFile(fd)
	return errno == linux.OK && st.Blocks >= st.Size/512
}

// reader is a file that is open, mapped or not.
type reader interface {
	ReadAt(p []byte, off int64) (int, error)
	Close() error
}

// mapFile maps the file where that is safe, and gives a reader of it in any case.
func mapFile(f *os.File, size int64) reader {
	page := int64(os.Getpagesize())
	if size <= page {
		return f
	}
	fd := int(f.Fd())
	if !mappable(fd) {
		return f
	}
	a, errno := linux.MapAt(0, uint64(size), linux.ProtRead, linux.MapShared, fd, 0)
	if errno != linux.OK {
		return f
	}
	return &mapped{file: f, data: linux.BytesAt(a, int(size)), safe: (size - 1) &^ (page - 1)}
}

func (m *mapped) unmapped() *os.File { return m.file }

// ReadAt reads as io.ReaderAt says.
func (m *mapped) ReadAt(buf []byte, off int64) (int, error) {
	if off < 0 || off >= m.safe {
		return m.file.ReadAt(buf, off)
	}
	head := buf[:min(int64(len(buf)), m.safe-off)]
	if !m.copy(head, off) {
		return m.file.ReadAt(buf, off)
	}
	if len(head) == len(buf) {
		return len(buf), nil
	}
	n, err := m.file.ReadAt(buf[len(head):], m.safe)
	return len(head) + n, err
}

// copy fills buf, which is short of the last page, from the mapping. It gives false when
// the bytes are not to be had there.
func (m *mapped) copy(buf []byte, off int64) (ok bool) {
	defer m.caught(debug.SetPanicOnFault(true), &ok)
	data := m.data[off:][:len(buf)]
	sum := byte(0)
	for i := 0; i < len(data); i += 4096 { // finds all pages at once; copy would find one after another
		sum += data[i]
	}
	touch(&sum)
	copy(buf, data)
	touch(&m.data[m.safe])
	return true
}

// prefetch loads the bytes at n places. No load waits for the one before it. Where one
// faults it gives up: copy will tell.
func (m *mapped) prefetch(places [xfer.PrefetchSegs]int64, n int) {
	var at [xfer.PrefetchSegs]uint64
	k, base := 0, linux.AddressOf(m.data)
	for _, off := range places[:n] {
		if uint64(off) < uint64(m.safe) {
			at[k] = base + uint64(off)
			k++
		}
	}
	linux.TouchMapped(at[:k])
}

// touch loads a byte. It is not inlined, or the load would be left out as useless.
//
//go:noinline
func touch(b *byte) byte { return *b }

// caught ends copy: it takes the fault of the mapping, and no other panic.
func (m *mapped) caught(old bool, ok *bool) {
	debug.SetPanicOnFault(old)
	p := recover()
	if p == nil {
		return
	}
	fault, isFault := p.(interface{ Addr() uintptr })
	if !isFault || uint64(fault.Addr())-linux.AddressOf(m.data) >= uint64(len(m.data)) {
		panic(p)
	}
	*ok = false
}

// Close unmaps and closes the file. No read may run.
func (m *mapped) Close() error {
	linux.UnmapAt(linux.AddressOf(m.data), uint64(len(m.data)))
	return m.file.Close()
}
