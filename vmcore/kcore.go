// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// kcoreFile is /proc/kcore, or what a test has in its place. Errors are constants: a fault
// (remora.Cause), which is then exact to the granule at best, or what says nothing of the
// bytes.
type kcoreFile interface {
	// read reads a prefix of buf from off. Fewer bytes without an error are as many as
	// there were.
	read(buf []byte, off int64) (int, error)
	// readv is read for the buffers of segments, at most xfer.ChunkSegs of them, that
	// take the bytes from off on one after another.
	readv(segs []remora.Seg, off int64) (int, error)
	close() error
}

// kcoreMem is /dev/mem: the one door through which Linux lets physical memory be written.
type kcoreMem interface {
	write(buf []byte, at int64) (int, error)
	close() error
}

// kcoreFlags is /proc/kpageflags: 8 bytes of flags for each page frame, as the kernel has
// them now.
type kcoreFlags interface {
	// flags reads those from off on. Fewer than asked for are all there are.
	flags(buf []byte, off int64) (int, error)
	close() error
}

// kcore is the memory of the running system, through the virtual addresses at which its
// kernel has it mapped (fs/proc/kcore.c). The kernel answers a read of any offset, with
// zeros where there is nothing; so what is there is told by the segments alone. They change
// when memory is plugged in or out.
type kcore struct {
	name     string
	file     kcoreFile
	mem      kcoreMem   // nil: read only
	pages    kcoreFlags // nil: it is not known of pages that read as zeros why they do
	pageSize int        // bytes that flags are for: a page of this machine
	now      atomic.Pointer[kcoreHead]
	base     *kcoreHead // as it was on opening: what is described
	notes    notes

	mu    sync.Mutex // of looking at the headers again
	again []byte     // room for them
}

var (
	_ format         = (*kcore)(nil)
	_ xfer.Whole     = (*kcoreWhole)(nil)
	_ vectoredFormat = (*kcore)(nil)
)

// kcorePage is the smallest page there is.
const kcorePage = 4096

// newKcore reads the headers of a file. It keeps the file, and closes none.
func newKcore(f kcoreFile, name string) (*kcore, error) {
	k := &kcore{name: name, file: f}
	h, err := k.readHead()
	if err != nil {
		return nil, err
	}
	k.base = h
	k.now.Store(h)
	return k, k.notes.ofELF(&source{name: name, size: int64(len(h.all)), r: bytes.NewReader(h.all)}, h.file)
}

// Move moves what one segment has of the bytes at a.
func (k *kcore) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	p, ok := k.lookup(a)
	if !ok {
		return 0, remora.ErrHole
	}
	if room := uint64(p.last - a); uint64(len(buf))-1 > room {
		buf = buf[:room+1]
	}
	if op&remora.Write != 0 {
		return k.write(a, buf)
	}
	n, err := k.file.read(buf, p.off+int64(a-p.first))
	if n < len(buf) {
		retreat := xfer.Retreat{Whole: (*kcoreWhole)(k), Granule: kcorePage}
		if n, err = retreat.Move(ctx, op, a, buf); err != nil && n == 0 {
			return 0, err
		}
	}
	if there, why := k.present(a, buf[:n]); there < n {
		return there, why
	}
	return n, err
}

// kcoreWhole reads all of a run or fails, for kernels that refuse a page: older ones give
// EFAULT or EIO for some, and nothing of the pages before it.
type kcoreWhole kcore

// Whole reads all of buf.
func (w *kcoreWhole) Whole(_ context.Context, _ remora.Op, a remora.Addr, buf []byte) error {
	k := (*kcore)(w)
	p, ok := k.lookup(a)
	if !ok {
		return remora.ErrHole
	}
	n, err := k.file.read(buf, p.off+int64(a-p.first))
	switch {
	case n == len(buf):
		return nil
	case err == nil:
		return remora.ErrIO
	}
	return err
}

// write writes to one page: /dev/mem does not say how much it wrote before a page that it
// refuses.
func (k *kcore) write(a remora.Addr, buf []byte) (int, error) {
	if a >= 1<<63 {
		return 0, remora.ErrHole
	}
	return k.mem.write(buf[:min(len(buf), kcorePage-int(a%kcorePage))], int64(a))
}

// vector reads segments that follow one another by one call.
func (k *kcore) vector(segs []remora.Seg) int {
	p, ok := k.lookup(segs[0].Addr)
	if !ok {
		return 0
	}
	n, size := 0, 0
	for i := range segs {
		s := &segs[i]
		if s.Addr > p.last || uint64(len(s.Buf))-1 > uint64(p.last-s.Addr) {
			break
		}
		n, size = n+1, size+len(s.Buf)
	}
	if n == 0 {
		return 0
	}
	if got, err := k.file.readv(segs[:n], p.off+int64(segs[0].Addr-p.first)); got < size || err != nil {
		return 0
	}
	for i := range segs[:n] {
		s := &segs[i]
		if there, _ := k.present(s.Addr, s.Buf); there < len(s.Buf) {
			return i
		}
		s.N, s.Err = len(s.Buf), nil
	}
	return n
}

// lookup gives the piece that a is in. Where there is none the headers are looked at again:
// memory may have been plugged in.
func (k *kcore) lookup(a remora.Addr) (*piece, bool) {
	h := k.now.Load()
	i, ok := h.find(a)
	if !ok {
		if h = k.renewed(h); h != nil {
			i, ok = h.find(a)
		}
	}
	if !ok {
		return nil, false
	}
	return &h.table[i], true
}

// renewed gives the headers as they are now, nil if they are what h has.
func (k *kcore) renewed(h *kcoreHead) *kcoreHead {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.now.Load(); now != h {
		return now // another one was here first
	}
	if len(k.again) < len(h.progs) {
		k.again = make([]byte, len(h.progs))
	}
	b := k.again[:len(h.progs)]
	if n, err := k.file.read(b, 0); n < len(b) || err != nil || bytes.Equal(b, h.progs) {
		return nil
	}
	now, err := k.readHead()
	if err != nil {
		return nil
	}
	k.now.Store(now)
	return now
}

func (k *kcore) run(a remora.Addr) Run {
	h := k.now.Load()
	r := h.linear.run(a)
	r.File, r.Offset = k.name, -1
	return r
}

func (k *kcore) writable() bool { return k.mem != nil }

func (k *kcore) granule() uint32 { return k.base.granule() }

func (k *kcore) close() error {
	all := []error{k.file.close()}
	if k.mem != nil {
		all = append(all, k.mem.close())
	}
	if k.pages != nil {
		all = append(all, k.pages.close())
	}
	return errors.Join(all...)
}

// check has nothing to look for: what is live is not damaged.
func (k *kcore) check(context.Context, func(*remora.FormatError)) error {
	return fmt.Errorf("%s: the memory of a running system cannot be checked: %w", k.name, errors.ErrUnsupported)
}

func (k *kcore) explain(a remora.Addr, cause error) error {
	h := k.now.Load()
	i, ok := h.find(a)
	if !ok {
		return fmt.Errorf("%w: no segment of %s has it", cause, k.name)
	}
	p := h.segs[h.table[i].from]
	return fmt.Errorf("%w: in the segment of %s for 0x%x+0x%x, which the kernel has mapped at 0x%x", cause, k.name, p.Paddr, p.Filesz, p.Vaddr)
}

// describe fills in what the headers say. The registers in the notes are those of who reads
// the file.
func (k *kcore) describe(m *Meta) {
	f := k.base.file
	m.Machine, m.BigEndian, m.WordSize = f.Machine, f.BigEndian, wordSize(f.Machine, f.Wide())
	m.takeInfo(k.notes.info)
	for _, p := range k.base.segs {
		m.takeBase(f, p)
	}
	for _, x := range k.notes.all {
		if x.Owner == vmcoreinfo {
			m.Notes = append(m.Notes, x)
		}
	}
	for _, bad := range k.notes.damage {
		m.Problems = append(m.Problems, bad)
	}
	m.Parts = []Part{{File: k.name}}
}

// newLive gives the Image of the memory of the running system.
func newLive(k *kcore) *Image {
	m := newImage(k, "kernel", &Options{})
	m.info.Live = true
	m.meta.Format, m.meta.Reason = Kcore, "it is the memory of the running system"
	return m
}
