// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/access"
	"github.com/remora-go/remora/internal/sys/linux"
)

// Where Linux has the memory of its kernel.
const (
	kcorePath = "/proc/kcore"
	memPath   = "/dev/mem"
	flagsPath = "/proc/kpageflags"
	infoPath  = "/sys/kernel/vmcoreinfo"
)

func openKcore(o *KcoreOptions) (*Image, error) {
	f, err := openKcoreFile()
	if err != nil {
		return nil, err
	}
	k, err := newKcore(f, kcorePath)
	if err != nil {
		f.close()
		if errors.Is(err, errKcoreEmpty) || errors.Is(err, remora.ErrUnrecognized) {
			return nil, masked(err.Error(), err)
		}
		return nil, err
	}
	if fd, errno := linux.Open(flagsPath, linux.RDONLY); errno == linux.OK {
		k.pages = fdFile(fd)
	}
	if text, err := os.ReadFile(infoPath); err == nil && k.notes.info == nil {
		k.infoAt(string(text))
	}
	if o.Write {
		if k.mem, err = openMem(k); err != nil {
			return nil, errors.Join(err, k.close())
		}
	}
	return newLive(k), nil
}

// openKcoreFile opens /proc/kcore.
func openKcoreFile() (fdFile, error) {
	st, err := os.Lstat(kcorePath)
	if err == nil && !st.Mode().IsRegular() {
		what := "a directory"
		if !st.IsDir() {
			what = "a device or the like, as /dev/null is"
		}
		return -1, masked(kcorePath+" is "+what, nil)
	}
	fd, errno := linux.Open(kcorePath, linux.RDONLY)
	if errno == linux.OK {
		return fdFile(fd), nil
	}
	system := access.GatherSystem(os.DirFS("/"))
	switch {
	case errno == linux.ENOENT:
		return -1, fmt.Errorf("kernel: %s: %w", system.Missing(kcorePath, "PROC_KCORE"), fs.ErrNotExist)
	case errors.Is(errno, fs.ErrPermission):
		step := system.Kcore(errno == linux.EACCES)
		return -1, &remora.AccessError{Target: "kernel", Act: "read the memory of", Reason: step.Text, Remedy: step.Remedy, Err: errno}
	}
	return -1, &fs.PathError{Op: "open", Path: kcorePath, Err: errno}
}

// masked is the error where something else is in the place of /proc/kcore.
func masked(what string, err error) error {
	return &remora.AccessError{Target: "kernel", Act: "read the memory of",
		Reason: what + ": container engines put such in its place",
		Remedy: "run on the host, or in a container that is let see /proc as it is (privileged)", Err: err}
}

// openMem opens /dev/mem, and finds out whether the kernel lets RAM be reached through it,
// before anything is written: to write may do nothing, and say that it did.
func openMem(k *kcore) (kcoreMem, error) {
	refused := func(errno linux.Errno, opened bool) error {
		system := access.GatherSystem(os.DirFS("/"))
		if errno == linux.ENOENT {
			return fmt.Errorf("kernel: %s: %w", system.Missing(memPath, "DEVMEM"), errors.ErrUnsupported)
		}
		step := system.DevMem(errno == linux.EACCES, opened)
		return &remora.AccessError{Target: "kernel", Act: "write the memory of", Reason: step.Text, Remedy: step.Remedy, Err: errno}
	}
	fd, errno := linux.Open(memPath, linux.RDWR)
	if errno != linux.OK {
		return nil, refused(errno, false)
	}
	var b [1]byte
	if _, errno = linux.Mem(false, fd, b[:], uint64(k.someRAM())); errno != linux.OK {
		linux.Close(fd)
		return nil, refused(errno, true)
	}
	return fdFile(fd), nil
}

// someRAM gives a physical address that is RAM and not in the first MiB, of which x86
// kernels let more be reached.
func (k *kcore) someRAM() remora.Addr {
	const low = 1 << 20
	for _, p := range k.base.table {
		if p.last >= low {
			return max(p.first, low)
		}
	}
	return k.base.table[0].first
}

// fdFile is an open file descriptor.
type fdFile int

var (
	_ kcoreFile  = fdFile(0)
	_ kcoreMem   = fdFile(0)
	_ kcoreFlags = fdFile(0)
)

func (f fdFile) close() error {
	linux.Close(int(f))
	return nil
}

// cause makes a constant error of a number.
func cause(errno linux.Errno) error {
	switch errno {
	case linux.EFAULT:
		return remora.ErrFault
	case linux.EPERM:
		return remora.ErrProtected
	}
	return remora.ErrIO
}

// read is pread(2), as often as it takes.
func (f fdFile) read(buf []byte, off int64) (int, error) { return f.move(false, buf, off) }

// write is pwrite(2), as often as it takes.
func (f fdFile) write(buf []byte, at int64) (int, error) { return f.move(true, buf, at) }

func (f fdFile) flags(buf []byte, off int64) (int, error) { return f.move(false, buf, off) }

func (f fdFile) move(write bool, buf []byte, off int64) (int, error) {
	done := 0
	for done < len(buf) {
		n, errno := linux.Mem(write, int(f), buf[done:], uint64(off)+uint64(done))
		switch {
		case errno == linux.EINTR:
			continue
		case errno != linux.OK:
			return done, cause(errno)
		case n == 0:
			return done, nil
		}
		done += n
	}
	return done, nil
}

var streams = sync.Pool{New: func() any { return new(linux.Stream) }}

// readv is preadv(2).
func (f fdFile) readv(segs []remora.Seg, off int64) (int, error) {
	s := streams.Get().(*linux.Stream)
	defer streams.Put(s)
	defer s.Reset()
	for i := range segs {
		s.Add(segs[i].Buf)
	}
	n, errno := linux.MemV(int(f), s.From(0, segs[0].Buf), uint64(off))
	if errno != linux.OK {
		return 0, cause(errno)
	}
	return n, nil
}
