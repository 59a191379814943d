// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/elfcore"
	"github.com/remora-go/remora/internal/xfer"
	"github.com/remora-go/remora/memtest"
)

const (
	kpage   = 4096
	kdirect = 0xffff888000000000
	ktext   = 0xffffffff81000000
)

// machine is a fake of /proc/kcore and what goes with it. As the kernel does, it answers a
// read of any place, with zeros where nothing is.
type machine struct {
	mu      sync.RWMutex
	head    []byte
	progs   []elfcore.Prog
	pages   map[uint64][]byte // by frame
	marks   map[uint64]uint64 // flags, by frame
	refuses map[uint64]error  // frames that an older kernel refuses, and all that is read with them
	writing error             // why /dev/mem refuses
	frames  uint64            // that there are flags of
	reads   int
	vectors int
}

var (
	_ kcoreFile  = (*machine)(nil)
	_ kcoreFlags = machineFlags{}
	_ kcoreMem   = (*machineMem)(nil)
)

func (m *machine) close() error { return nil }

// prog gives a segment with its place as kernels have it: the virtual address without its
// sign bits, and the size of the headers.
func prog(vaddr, paddr, size uint64) elfcore.Prog {
	return elfcore.Prog{Type: elf.PT_LOAD, Vaddr: vaddr, Paddr: paddr, Filesz: size, Memsz: size, Off: vaddr&(1<<47-1) + 0x4000}
}

// heads writes headers, with notes behind them.
func heads(order binary.ByteOrder, notes []byte, progs []elfcore.Prog) []byte {
	w := order.(binary.AppendByteOrder)
	data := byte(elf.ELFDATA2LSB)
	if order == binary.BigEndian {
		data = byte(elf.ELFDATA2MSB)
	}
	b := append([]byte(elf.ELFMAG), byte(elf.ELFCLASS64), data, 1)
	b = append(b, make([]byte, 16-len(b))...)
	b = w.AppendUint16(w.AppendUint16(b, uint16(elf.ET_CORE)), uint16(elf.EM_X86_64))
	b = w.AppendUint32(b, 1)
	b = w.AppendUint64(w.AppendUint64(w.AppendUint64(b, 0), 64), 0)
	b = w.AppendUint32(b, 0)
	for _, n := range []int{64, 56, len(progs) + 1, 0, 0, 0} {
		b = w.AppendUint16(b, uint16(n))
	}
	at := uint64(64 + 56*(len(progs)+1))
	for _, p := range append([]elfcore.Prog{{Type: elf.PT_NOTE, Off: at, Filesz: uint64(len(notes))}}, progs...) {
		b = w.AppendUint32(w.AppendUint32(b, uint32(p.Type)), 7)
		for _, n := range []uint64{p.Off, p.Vaddr, p.Paddr, p.Filesz, p.Memsz, 0} {
			b = w.AppendUint64(b, n)
		}
	}
	return append(b, notes...)
}

// note writes a note.
func note(owner, desc string) []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(len(owner)+1))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(desc)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	return padded(append(padded(append(b, owner+"\x00"...)), desc...))
}

// newMachine has memory from frame 1 on, and what kernels list besides.
func newMachine(size uint64) *machine {
	m := &machine{pages: map[uint64][]byte{}, marks: map[uint64]uint64{}, refuses: map[uint64]error{}, frames: 1 << 30}
	for frame := uint64(1); frame <= size/kpage; frame++ {
		m.fill(frame)
	}
	m.fill(1 << 20)
	m.list(
		prog(ktext, 4*kpage, 3*kpage),
		prog(0xffffc90000000000, math.MaxUint64, 1<<45-1),
		prog(0xffffffffc0000000, math.MaxUint64, 0x3f000000),
		prog(kdirect+kpage, kpage, size),
		prog(0xffffea0000000000, math.MaxUint64, 0x3000),
		prog(kdirect+kpage<<20, kpage<<20, kpage),
	)
	return m
}

func (m *machine) fill(frame uint64) {
	b := make([]byte, kpage)
	for i := range b {
		b[i] = byte(frame*31) + byte(i)*7 + byte(i>>8) | 1
	}
	m.pages[frame] = b
}

func (m *machine) list(progs ...elfcore.Prog) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.progs = progs
	m.head = heads(binary.LittleEndian, slices.Concat(note("CORE", "the reader's"), note("VMCOREINFO", "OSRELEASE=6.1\nPAGESIZE=4096\n")), progs)
}

// at gives where in physical memory the byte at off is.
func (m *machine) at(off uint64) (uint64, bool) {
	for i := range m.progs {
		if p := &m.progs[i]; off >= p.Off && off-p.Off < p.Filesz && p.Paddr != math.MaxUint64 {
			return p.Paddr + off - p.Off, true
		}
	}
	return 0, false
}

// read takes for granted that nobody else reads meanwhile, as the kernel does.
func (m *machine) read(buf []byte, off int64) (int, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	m.reads++
	for n := 0; n < len(buf); {
		at := uint64(off) + uint64(n)
		if at < uint64(len(m.head)) {
			n += copy(buf[n:], m.head[at:])
			continue
		}
		part := buf[n : n+min(len(buf)-n, int(kpage-at%kpage))]
		clear(part)
		if a, ok := m.at(at); ok {
			if err := m.refuses[a/kpage]; err != nil {
				return 0, err
			}
			if page := m.pages[a/kpage]; page != nil && absence(m.marks[a/kpage]) == 0 {
				copy(part, page[a%kpage:])
			}
		}
		n += len(part)
	}
	return len(buf), nil
}

func (m *machine) readv(segs []remora.Seg, off int64) (int, error) {
	m.vectors++
	n := 0
	for i := range segs {
		got, err := m.read(segs[i].Buf, off+int64(n))
		if err != nil {
			return 0, err
		}
		n += got
	}
	return n, nil
}

// machineFlags are the flags of a machine's pages.
type machineFlags struct{ *machine }

func (m machineFlags) flags(buf []byte, off int64) (int, error) {
	n := 0
	for ; n < len(buf) && uint64(off)/8+uint64(n)/8 < m.frames; n += 8 {
		binary.NativeEndian.PutUint64(buf[n:], m.marks[uint64(off)/8+uint64(n)/8])
	}
	return n, nil
}

// machineMem is its /dev/mem.
type machineMem machine

func (m *machineMem) close() error { return nil }

func (m *machineMem) write(buf []byte, at int64) (int, error) {
	if m.writing != nil {
		return 0, m.writing
	}
	page := m.pages[uint64(at)/kpage]
	if page == nil {
		return 0, remora.ErrFault
	}
	return copy(page[at%kpage:], buf), nil
}

// open gives the Image.
func (m *machine) open(t testing.TB, writable bool) *Image {
	t.Helper()
	k, err := newKcore(m, "/proc/kcore")
	if err != nil {
		t.Fatal(err)
	}
	k.pages, k.pageSize = machineFlags{m}, kpage
	if writable {
		k.mem = (*machineMem)(m)
	}
	return newLive(k)
}

// area gives what is in frames.
func (m *machine) area(first, count uint64) memtest.Area {
	a := memtest.Area{Range: remora.Range{Start: remora.Addr(first * kpage), Size: count * kpage}}
	for f := first; f < first+count; f++ {
		a.Data = append(a.Data, m.pages[f]...)
	}
	return a
}

func TestKcoreSpace(t *testing.T) {
	for _, writable := range []bool{false, true} {
		t.Run(fmt.Sprintf("writable %v", writable), func(t *testing.T) {
			const size = 3<<20 + 8*kpage
			part := uint64(0) // all of it
			if writable {
				part = 1
			}
			memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
				m := newMachine(size)
				last := uint64(size / kpage)
				m.marks[last-1], m.marks[last-3] = kpfHWPoison, kpfOffline
				f := memtest.Fixture{Areas: []memtest.Area{
					{Range: remora.Range{Size: kpage}, Fault: memtest.Always(remora.ErrHole)},
					m.area(1, last-4),
					m.area(last-2, 1),
					m.area(last, 1),
					{Range: remora.Range{Start: remora.Addr(last+1) * kpage, Size: kpage}, Fault: memtest.Always(remora.ErrHole)},
				}}
				if writable { // a write is not looked at: the kernel does it
					delete(m.marks, last-1)
					delete(m.marks, last-3)
				} else {
					f.Areas = append(f.Areas,
						memtest.Area{Range: remora.Range{Start: remora.Addr(last-3) * kpage, Size: kpage}, Fault: memtest.Always(remora.ErrHole)},
						memtest.Area{Range: remora.Range{Start: remora.Addr(last-1) * kpage, Size: kpage}, Fault: memtest.Always(remora.ErrPoisoned)})
					for i := range f.Areas {
						if f.Areas[i].Fault == nil {
							f.Areas[i].Fault = memtest.OnWrite(remora.ErrReadOnly)
						}
					}
				}
				img := m.open(t, writable)
				f.Space, f.Close = img, img.Close
				f.Peek = func(b []byte, a remora.Addr) error {
					for len(b) > 0 {
						n := copy(b, m.pages[uint64(a)/kpage][a%kpage:])
						b, a = b[n:], a+remora.Addr(n)
					}
					return nil
				}
				return f
			}, memtest.Want{
				Part: part,
				Info: remora.Info{Name: "kernel@phys", Ops: remora.StopAtFault | remora.Force | remora.Resident, PtrSize: 8, Granule: kpage,
					Last: remora.MaxAddr, Writable: writable, Live: true},
				Lacks: memtest.Lacks{Forced: "physical memory has no protection", Absent: "physical memory has no paging", Top: "no machine has memory there"},
			})
		})
	}
}

// Segments that follow one another are one call.
func TestKcoreVector(t *testing.T) {
	m := newMachine(64 * kpage)
	img := m.open(t, false)
	defer img.Close()
	buf := make([]byte, 20*kpage)
	var segs []remora.Seg
	for i := range 20 {
		segs = append(segs, remora.Seg{Addr: remora.Addr((2 + i) * kpage), Buf: buf[i*kpage : (i+1)*kpage]})
	}
	m.reads, m.vectors = 0, 0
	if n, err := img.Transfer(t.Context(), remora.Read, segs); n != 20*kpage || err != nil || m.vectors != 1 {
		t.Errorf("%d bytes by %d calls, %v", n, m.vectors, err)
	}
	if !bytes.Equal(buf, m.area(2, 20).Data) {
		t.Error("other bytes")
	}
	m.marks[7] = kpfOffline
	segs = append(segs, remora.Seg{Addr: 63 * kpage, Buf: make([]byte, 4*kpage)}, remora.Seg{Addr: 60 * kpage, Buf: make([]byte, 8)})
	if n, err := img.Transfer(t.Context(), remora.Read, segs); n != 19*kpage+2*kpage+8 || !errors.Is(err, remora.ErrHole) || segs[5].N != 0 || segs[6].N != kpage {
		t.Errorf("with a page that is offline: %d bytes, %v", n, err)
	}
	if _, err := img.Transfer(t.Context(), remora.Read|remora.StopAtFault, segs); !errors.Is(err, remora.ErrHole) || segs[6].Err != remora.ErrStopped || segs[4].Err != nil {
		t.Errorf("to the first fault: %v, %v", err, segs[6].Err)
	}
}

// tablesOf has all of the direct map mapped, but for the pages of some frames.
type tablesOf struct {
	t     *testing.T
	plain remora.Space
	none  []uint64
}

func (x tablesOf) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	frame := uint64(va-kdirect) / kpage
	e := remora.Extent{Virt: va &^ (kpage - 1), Size: kpage, Perm: remora.PermRead}
	if slices.Contains(x.none, frame) {
		e.Err = remora.ErrUnmapped
		if b, err := remora.New(x.plain).Uint64(ctx, remora.Addr(frame)*kpage); b != 0 || err != nil {
			x.t.Errorf("without tables frame %d is %#x, %v", frame, b, err)
		}
	}
	return e
}

// A page that the kernel has not mapped itself is not zeros.
func TestKcoreNotMapped(t *testing.T) {
	m := newMachine(64 * kpage)
	clear(m.pages[10])
	clear(m.pages[20])
	img := m.open(t, false)
	defer img.Close()
	b := make([]byte, 40*kpage)
	if n, err := img.Memory().ReadAt(t.Context(), b, kpage); n != len(b) || err != nil {
		t.Errorf("before the tables are known: %d bytes, %v", n, err)
	}
	img.SetTables(func(plain remora.Space) remora.Translator { return tablesOf{t, plain, []uint64{5, 20}} })
	n, err := img.Memory().ReadAt(t.Context(), b, kpage)
	if n != 19*kpage || !errors.Is(err, remora.ErrFault) || !strings.Contains(err.Error(), "has not mapped the page itself") {
		t.Errorf("%d bytes, %v", n, err)
	}
	if n, err := img.Memory().ReadAt(t.Context(), b[:10*kpage], 21*kpage); n != 10*kpage || err != nil {
		t.Errorf("behind it: %d bytes, %v", n, err)
	}
}

// Memory may be plugged in and out.
func TestKcoreHotplug(t *testing.T) {
	m := newMachine(16 * kpage)
	img := m.open(t, false)
	defer img.Close()
	m.fill(1 << 16)
	if _, err := img.Memory().Uint8(t.Context(), kpage<<16); !errors.Is(err, remora.ErrHole) || !strings.Contains(err.Error(), "no segment of /proc/kcore has it") {
		t.Error(err)
	}
	was := m.progs
	m.list(append(slices.Clone(was), prog(kdirect+kpage<<16, kpage<<16, kpage))...)
	if b, err := img.Memory().Uint8(t.Context(), kpage<<16); err != nil || b != m.pages[1<<16][0] {
		t.Errorf("memory that was plugged in: %#x, %v", b, err)
	}
	m.list(was...)
	m.frames = 1 << 16
	if _, err := img.Memory().Uint8(t.Context(), kpage<<16); !errors.Is(err, remora.ErrHole) {
		t.Errorf("memory that was plugged out: %v", err)
	}
	m.head = []byte("no more")
	if _, err := img.Memory().Uint8(t.Context(), 0); !errors.Is(err, remora.ErrHole) {
		t.Error(err)
	}
}

// Older kernels refuse a page, and all of a read that it is in.
func TestKcoreRefusesPages(t *testing.T) {
	m := newMachine(256 * kpage)
	m.refuses[100], m.refuses[150] = remora.ErrFault, remora.ErrIO
	img := m.open(t, false)
	defer img.Close()
	b := make([]byte, 200*kpage)
	for _, c := range []struct {
		from uint64
		n    int
		why  error
	}{{1, 99 * kpage, remora.ErrFault}, {101, 49 * kpage, remora.ErrIO}, {100, 0, remora.ErrFault}} {
		n, err := img.Memory().ReadAt(t.Context(), b, remora.Addr(c.from*kpage))
		if n != c.n || !errors.Is(err, c.why) || !bytes.Equal(b[:n], m.area(c.from, uint64(c.n)/kpage).Data) {
			t.Errorf("from frame %d: %d bytes, %v", c.from, n, err)
		}
	}
}

func TestKcoreMeta(t *testing.T) {
	img := newMachine(16*kpage).open(t, false)
	defer img.Close()
	m := img.Meta()
	if m.Format != Kcore || m.Machine != elf.EM_X86_64 || m.PageSize != kpage || m.Uname[2] != "6.1" || len(m.CPUs) != 0 || len(m.Notes) != 1 {
		t.Errorf("%+v", m)
	}
	if base := uint64(4 * kpage); !m.HasBase || m.PhysBase != base-(ktext-kernelText) {
		t.Errorf("phys_base %#x", m.PhysBase)
	}
	var runs []string
	for r, err := range img.Runs(t.Context()) {
		runs = append(runs, fmt.Sprint(r.Range, r.Err, err))
	}
	if len(runs) != 2 {
		t.Errorf("%q", runs)
	}
	facts, err := img.Describe(t.Context())
	if text := fmt.Sprint(facts); err != nil || !strings.Contains(text, "running system") || !strings.Contains(text, "{memory 69632 bytes}") {
		t.Errorf("%v, %v", facts, err)
	}
	if err := img.Check(t.Context(), nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// Before 4.19 the note is where a file says that it is.
func TestKcoreInfoElsewhere(t *testing.T) {
	m := newMachine(16 * kpage)
	k, err := newKcore(m, "/proc/kcore")
	if err != nil {
		t.Fatal(err)
	}
	k.notes = notes{}
	copy(m.pages[5], note("VMCOREINFO", "OSRELEASE=4.14\n"))
	for text, want := range map[string]string{
		"5000 1000\n":    "",
		"800000000 24\n": "memory cannot be read",
		"1000 100000000": "bytes",
		"nothing":        "nothing",
		"6000 14":        "want",
		"2000 0":         "no note",
	} {
		k.notes = notes{}
		k.infoAt(text)
		if got := fmt.Sprint(k.notes.damage); want == "" && (len(k.notes.damage) != 0 || string(k.notes.info) != "OSRELEASE=4.14\n") || !strings.Contains(got, want) {
			t.Errorf("%q: %s, %q", text, got, k.notes.info)
		}
	}
}

// What is not physical memory has no address.
func TestKcoreSegments(t *testing.T) {
	for _, c := range []struct {
		name  string
		progs []elfcore.Prog
		err   error
		runs  int
	}{
		{"before 4.11", []elfcore.Prog{prog(kdirect, 0, 1<<30), prog(ktext, 0, 1<<20)}, errors.ErrUnsupported, 0},
		{"memory at 0", []elfcore.Prog{prog(kdirect, 0, 1<<30), prog(0xffffc90000000000, math.MaxUint64, 1<<45)}, nil, 1},
		{"past the last address", []elfcore.Prog{prog(kdirect, math.MaxUint64-kpage, 1<<30)}, remora.ErrCorrupt, 0},
		{"past the last place", []elfcore.Prog{{Type: elf.PT_LOAD, Paddr: kpage, Filesz: kpage, Off: math.MaxInt64 - 5}}, remora.ErrCorrupt, 0},
		{"none", nil, errors.ErrUnsupported, 0},
	} {
		h, err := parseKcore(heads(binary.LittleEndian, nil, c.progs), "/proc/kcore")
		if !errors.Is(err, c.err) || err == nil && len(h.table) != c.runs {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// The image of the kernel is larger than the memory around it, and yet the direct map is taken.
	h, err := parseKcore(heads(binary.BigEndian, nil, []elfcore.Prog{
		prog(ktext, 1<<20, 1<<20), prog(kdirect+1<<20, 1<<20, 1<<19), prog(kdirect+1<<30, 1<<30, 1<<25), prog(0xffffc90000000000, math.MaxUint64, 1<<45)}), "/proc/kcore")
	if err != nil {
		t.Fatal(err)
	}
	if i, ok := h.find(1<<20 + 5); !ok || h.segs[h.table[i].from].Vaddr != kdirect+1<<20 {
		t.Error("the image of the kernel is taken")
	}
	if i, ok := h.find(1<<20 + 1<<19); !ok || h.segs[h.table[i].from].Vaddr != ktext {
		t.Error("the image of the kernel is not taken")
	}
}

// What stands in the place of the file is an error, and not zeros.
func TestKcoreIsSomethingElse(t *testing.T) {
	for name, c := range map[string]struct {
		head []byte
		err  error
	}{
		"nothing": {nil, errKcoreEmpty},
		"zeros":   {make([]byte, 1<<16), remora.ErrUnrecognized},
		"text":    {[]byte("hello"), remora.ErrUnrecognized},
		"a program": {func() []byte {
			b := heads(binary.LittleEndian, nil, nil)
			b[16] = byte(elf.ET_EXEC)
			return b
		}(), remora.ErrUnrecognized},
		"cut off": {heads(binary.LittleEndian, nil, []elfcore.Prog{prog(kdirect, 0, 1<<30)})[:100], remora.ErrTruncated},
	} {
		if _, err := newKcore(shortFile(c.head), "/proc/kcore"); !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// shortFile ends where it ends.
type shortFile []byte

func (f shortFile) read(buf []byte, off int64) (int, error) {
	return copy(buf, f[min(off, int64(len(f))):]), nil
}

func (f shortFile) readv([]remora.Seg, int64) (int, error) { return 0, remora.ErrIO }

func (f shortFile) close() error { return nil }

// FuzzKcore takes anything for headers.
func FuzzKcore(f *testing.F) {
	f.Add(newMachine(16 * kpage).head)
	f.Add(heads(binary.BigEndian, []byte("notes"), []elfcore.Prog{prog(ktext, 0, 5), prog(kdirect, 3, 1<<40)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := newKcore(shortFile(b), "/proc/kcore")
		if err != nil {
			return
		}
		k.pageSize = kpage
		img := newLive(k)
		defer img.Close()
		n := 0
		for r, err := range img.Runs(t.Context()) {
			if err != nil || r.Size == 0 {
				t.Fatal(r, err)
			}
			if n++; n > 100 {
				break
			}
			_, _ = img.Memory().Uint64(t.Context(), r.Start)
		}
	})
}

func TestVectoredEndsWithItsContext(t *testing.T) {
	img := newMachine(16*kpage).open(t, false)
	defer img.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	segs := []remora.Seg{{Addr: kpage, Buf: make([]byte, 8)}, {Addr: kpage + 8, Buf: make([]byte, 8)}, {Addr: 9 * kpage, Buf: make([]byte, 8)}}
	if n, err := img.Transfer(ctx, remora.Read, segs); n != 0 || !errors.Is(err, context.Canceled) || segs[2].Err == nil {
		t.Error(n, err)
	}
	if got := adjacent(make([]remora.Seg, 3)); got != 0 {
		t.Error(got)
	}
	many := make([]remora.Seg, xfer.ChunkSegs+5)
	for i := range many {
		many[i] = remora.Seg{Addr: remora.Addr(i), Buf: make([]byte, 1)}
	}
	if got := adjacent(many); got != xfer.ChunkSegs {
		t.Error(got)
	}
}
