// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
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
	mem      kcoreMem                          // nil: read only
	pages    kcoreFlags                        // nil: it is not known of pages that read as zeros why they do
	pageSize int                               // bytes that flags are for: a page of this machine
	tables   atomic.Pointer[remora.Translator] // see Image.SetTables
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
	_ kcoreFile      = (*oneReader)(nil)
)

// oneReader is a file that is read by one at a time. The kernel copies what it reads of
// /proc/kcore through a page that belongs to the open file and that nothing guards
// (read_kcore in fs/proc/kcore.c: file->private_data), so two who read at once get each
// other's bytes.
type oneReader struct {
	mu   sync.Mutex
	file kcoreFile
}

func (f *oneReader) read(buf []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.read(buf, off)
}

func (f *oneReader) readv(segs []remora.Seg, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.readv(segs, off)
}

func (f *oneReader) close() error { return f.file.close() }

// kcorePage is the smallest page there is.
const kcorePage = 4096

// newKcore reads the headers of a file. It keeps the file, and closes none.
func newKcore(f kcoreFile, name string) (*kcore, error) {
	k := &kcore{name: name, file: &oneReader{file: f}, pageSize: os.Getpagesize()}
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
	n, err := k.move(ctx, op, a, buf)
	if op&remora.Write != 0 || n == 0 {
		return n, err
	}
	if there, why := k.present(ctx, a, buf[:n]); there < n {
		return there, why
	}
	return n, err
}

// move is Move that takes the kernel's word for pages of zeros.
func (k *kcore) move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	p, _ := k.lookup(a)
	if p == nil {
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
		return retreat.Move(ctx, op, a, buf)
	}
	return n, err
}

// kcoreWhole reads all of a run or fails, for kernels that refuse a page: older ones give
// EFAULT or EIO for some, and nothing of the pages before it.
type kcoreWhole kcore

// Whole reads all of buf.
func (w *kcoreWhole) Whole(_ context.Context, _ remora.Op, a remora.Addr, buf []byte) error {
	k := (*kcore)(w)
	p, _ := k.lookup(a)
	if p == nil {
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
func (k *kcore) vector(ctx context.Context, segs []remora.Seg) int {
	p, _ := k.lookup(segs[0].Addr)
	if p == nil {
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
		if there, _ := k.present(ctx, s.Addr, s.Buf); there < len(s.Buf) {
			return i
		}
		s.N, s.Err = len(s.Buf), nil
	}
	return n
}

// lookup gives the piece that a is in, and the headers that it is of; nil: none. Where there
// is none the headers are looked at again: memory may have been plugged in.
func (k *kcore) lookup(a remora.Addr) (*piece, *kcoreHead) {
	h := k.now.Load()
	i, ok := h.find(a)
	if !ok {
		if h = k.renewed(h); h != nil {
			i, ok = h.find(a)
		}
	}
	if !ok {
		return nil, nil
	}
	return &h.table[i], h
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
	p, h := k.lookup(a)
	if p == nil {
		return fmt.Errorf("%w: no segment of %s has it", cause, k.name)
	}
	g := h.segs[p.from]
	where := fmt.Sprintf("in the segment of %s for 0x%x+0x%x, at 0x%x of the kernel", k.name, g.Paddr, g.Filesz, g.Vaddr+(uint64(a)-g.Paddr))
	switch {
	case errors.Is(cause, remora.ErrHole):
		where += ", and the page is offline or gone"
	case errors.Is(cause, remora.ErrProtected):
		where += ": /dev/mem refuses this page"
	case k.tables.Load() != nil && !errors.Is(cause, remora.ErrPoisoned) && !errors.Is(cause, remora.ErrIO):
		where += ", where it has not mapped the page itself, as it does with memory of memfd_secret: /proc/kcore reads it as zeros"
	}
	return fmt.Errorf("%w: %s", cause, where)
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

// plainKcore is the same memory, where a page that the kernel has not mapped is zeros: what
// page tables are read from, to find out which these are.
type plainKcore struct{ *Image }

// Transfer moves memory.
func (p plainKcore) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := p.gate.Admit(op, p.info.Ops, false); err != nil {
		return xfer.Refuse(segs, err)
	}
	defer p.gate.Leave()
	return xfer.Each(ctx, op, segs, p)
}

// Move moves a prefix of buf.
func (p plainKcore) Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	return p.f.(*kcore).move(ctx, op, a, buf)
}

// SetTables tells the memory of a running system of its kernel's page tables, which make
// makes of the memory that it is given. /proc/kcore reads pages that the kernel itself has
// not mapped as zeros; from now on they are ErrFault. Of another Image it does nothing.
func (m *Image) SetTables(make func(remora.Space) remora.Translator) {
	if k, ok := m.f.(*kcore); ok {
		t := make(plainKcore{m})
		k.tables.Store(&t)
	}
}

// newLive gives the Image of the memory of the running system.
func newLive(k *kcore) *Image {
	m := newImage(k, "kernel", &Options{})
	m.info.Live = true
	m.meta.Format, m.meta.Reason = Kcore, "it is the memory of the running system"
	return m
}
