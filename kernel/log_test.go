// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
	"github.com/remora-go/remora/paging"
)

// plainKernel is a kernel whose addresses are those of a Sparse, with VMCOREINFO.
func plainKernel(s *memtest.Sparse, info string) *Kernel { return kernelIn(s, s, info) }

// kernelIn is plainKernel for a Space before the Sparse.
func kernelIn(phys remora.Space, s *memtest.Sparse, info string) *Kernel {
	h := &Hints{VMCoreInfo: ParseVMCoreInfo([]byte(info))}
	k := New(phys, "sample", h)
	k.done, k.found = true, &Found{Info: h.VMCoreInfo}
	k.view.Store(paging.New(phys, identity{s}, nil))
	return k
}

// identity translates addresses of what is mapped to themselves.
type identity struct{ s *memtest.Sparse }

func (i identity) Translate(ctx context.Context, a remora.Addr) remora.Extent {
	hole := remora.Extent{Virt: a, Size: uint64(remora.MaxAddr-a) + 1, Err: remora.ErrUnmapped}
	for r := range i.s.Regions(ctx) {
		if r.Contains(a) {
			return remora.Extent{Virt: r.Start, Phys: r.Start, Size: r.Size}
		}
		if r.Start > a {
			hole.Size = uint64(r.Start - a)
			break
		}
	}
	return hole
}

// store maps memory around a, and puts bytes there.
func store(t testing.TB, s *memtest.Sparse, a remora.Addr, b []byte) {
	t.Helper()
	first := a &^ 4095
	size := (uint64(a-first) + uint64(len(b)) + 4095) &^ 4095
	err := errors.Join(s.Map(remora.Range{Start: first, Size: size}, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}), s.Poke(b, a))
	if err != nil {
		t.Fatal(err)
	}
}

// poke changes bytes that are there.
func poke(t testing.TB, s *memtest.Sparse, a remora.Addr, b []byte) {
	t.Helper()
	if err := s.Poke(b, a); err != nil {
		t.Fatal(err)
	}
}

func le(n int, v uint64) []byte {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	return b[:n]
}

// Where the parts of a log are.
const (
	logPtrAt  = remora.Addr(0xffff_8000_0000_1000)
	logRingAt = logPtrAt + 0x10000
	logDescAt = logPtrAt + 0x20000
	logInfoAt = logPtrAt + 0x4000000
	logTextAt = logPtrAt + 0x8000000
)

// logInfo is VMCOREINFO of a kernel with a ring buffer.
const logInfo = "SYMBOL(prb)=ffff800000001000\n" + testimage.LogLayout

// logWriter writes a ring buffer as the kernel does, which gives new records the places of
// the oldest ones.
type logWriter struct {
	descBits, textBits uint64
	perfect            bool // a block may end at the ring's end, as since 6.18
	first              uint64

	descs, infos, text []byte
	id, lpos, tail     uint64
	kept               []LogRecord // that are still there, with where their text begins
	begins             []uint64
}

func newLogWriter(descBits, textBits uint64) *logWriter {
	w := &logWriter{descBits: descBits, textBits: textBits, descs: make([]byte, 24<<descBits), infos: make([]byte, 88<<descBits), text: make([]byte, 1<<textBits)}
	w.first = -(uint64(1)<<descBits + 1) & logIDMask
	w.id, w.tail = w.first, w.first
	copy(w.descs[w.slot(w.id)*24:], le(8, w.id|3<<62)) // DESC0_SV: reusable
	w.lpos = -(uint64(1) << textBits)
	return w
}

func (w *logWriter) slot(id uint64) uint64 { return id & (1<<w.descBits - 1) }

// add writes a record, and gives the number of its descriptor.
func (w *logWriter) add(r LogRecord) uint64 {
	w.id = (w.id + 1) & logIDMask
	size := (8 + uint64(len(r.Text)) + 7) &^ 7
	begin, next := w.lpos, w.lpos+size
	whole := uint64(1) << w.textBits
	last := next
	if w.perfect {
		last--
	}
	block := begin
	if begin/whole != last/whole { // it wraps
		block = next &^ (whole - 1)
		if w.perfect && next%whole == 0 {
			block = next
		}
		next = block + size
	}
	if r.Text == "" {
		begin, next = 3, 3
	} else {
		w.lpos = next
		copy(w.text[block%whole:], le(8, w.id))
		copy(w.text[block%whole+8:], r.Text)
	}
	i := w.slot(w.id)
	copy(w.descs[i*24:], slices.Concat(le(8, w.id|2<<62), le(8, begin), le(8, next)))
	info := w.infos[i*88:][:88]
	clear(info)
	copy(info, slices.Concat(le(8, r.Seq), le(8, uint64(r.Time)), le(2, uint64(len(r.Text))), []byte{r.Facility, r.Level<<5 | 3}, le(4, uint64(r.Caller)),
		[]byte(r.Subsystem)))
	copy(info[40:], r.Device)
	w.kept, w.begins = append(w.kept, r), append(w.begins, begin)
	for len(w.kept) > 1<<w.descBits || w.begins[0] != 3 && w.lpos-w.begins[0] > whole {
		w.kept, w.begins = w.kept[1:], w.begins[1:]
	}
	w.tail = (w.id - uint64(len(w.kept)) + 1) & logIDMask
	return w.id
}

// ring is the struct printk_ringbuffer.
func (w *logWriter) ring() []byte {
	return slices.Concat(le(8, w.descBits), le(8, uint64(logDescAt)), le(8, uint64(logInfoAt)), le(8, w.id), le(8, w.tail), le(8, 0),
		le(8, w.textBits), le(8, uint64(logTextAt)), le(8, 0), le(8, 0), le(8, 0))
}

func (w *logWriter) space(t testing.TB) *memtest.Sparse { return w.in(t, memtest.NewSparse(nil)) }

// in writes it into s.
func (w *logWriter) in(t testing.TB, s *memtest.Sparse) *memtest.Sparse {
	t.Helper()
	store(t, s, logPtrAt, le(8, uint64(logRingAt)))
	store(t, s, logRingAt, w.ring())
	store(t, s, logDescAt, w.descs)
	store(t, s, logInfoAt, w.infos)
	store(t, s, logTextAt, w.text)
	return s
}

func collect(t testing.TB, k *Kernel) (all []LogRecord, err error) {
	t.Helper()
	for r, err := range k.Log(t.Context()) {
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

func sampleRecord(seq uint64, text string) LogRecord {
	r := LogRecord{Seq: seq, Time: time.Duration(seq * 1234567890), Facility: uint8(seq % 24), Level: uint8(seq % 8), Caller: LogCaller(seq), Text: text}
	if seq%3 == 0 {
		r.Subsystem, r.Device, r.Caller = "pci", fmt.Sprintf("+pci:%d", seq), r.Caller|logCallerCPU
	}
	return r
}

func TestLogRing(t *testing.T) {
	for _, perfect := range []bool{false, true} {
		for _, length := range []int{0, 1, 8, 24, 56, 100} {
			w := newLogWriter(6, 10)
			w.perfect = perfect
			for seq := range uint64(300) {
				text := strings.Repeat(string(rune('a'+seq%26)), (length+int(seq%2)*16)%120)
				w.add(sampleRecord(seq, text))
				if seq != 5 && seq != 29 && seq < 200 {
					continue
				}
				got, err := collect(t, plainKernel(w.space(t), logInfo))
				if err != nil || !cmp.Equal(got, w.kept) {
					t.Fatalf("perfect %v, texts of %d bytes, after %d: %v\n%s", perfect, length, seq, err, cmp.Diff(w.kept, got))
				}
			}
		}
	}
}

// TestLogRingOfManyWindows has more descriptors than are read at a time.
func TestLogRingOfManyWindows(t *testing.T) {
	w := newLogWriter(13, 18)
	for seq := range uint64(20000) {
		w.add(sampleRecord(seq, "text"))
	}
	got, err := collect(t, plainKernel(w.space(t), logInfo))
	if err != nil || len(got) != 8192 || !cmp.Equal(got, w.kept) {
		t.Fatalf("%d records of %d, %v", len(got), len(w.kept), err)
	}
	n := 0
	for range plainKernel(w.space(t), logInfo).Log(t.Context()) {
		if n++; n == 5000 {
			break
		}
	}
	if n != 5000 {
		t.Errorf("%d records before a break", n)
	}
}
