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
const logInfo = `SYMBOL(prb)=ffff800000001000
SIZE(printk_ringbuffer)=88
OFFSET(printk_ringbuffer.desc_ring)=0
OFFSET(printk_ringbuffer.text_data_ring)=48
OFFSET(prb_desc_ring.count_bits)=0
OFFSET(prb_desc_ring.descs)=8
OFFSET(prb_desc_ring.infos)=16
OFFSET(prb_desc_ring.head_id)=24
OFFSET(prb_desc_ring.tail_id)=32
OFFSET(prb_data_ring.size_bits)=0
OFFSET(prb_data_ring.data)=8
SIZE(prb_desc)=24
OFFSET(prb_desc.state_var)=0
OFFSET(prb_desc.text_blk_lpos)=8
OFFSET(prb_data_blk_lpos.begin)=0
OFFSET(prb_data_blk_lpos.next)=8
SIZE(printk_info)=88
OFFSET(printk_info.seq)=0
OFFSET(printk_info.ts_nsec)=8
OFFSET(printk_info.text_len)=16
OFFSET(printk_info.caller_id)=20
OFFSET(printk_info.dev_info)=24
`

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

// TestLogRingOfStates leaves out what writers have, and says what is lost.
func TestLogRingOfStates(t *testing.T) {
	w := newLogWriter(4, 10)
	var ids []uint64
	for seq := range uint64(8) {
		ids = append(ids, w.add(sampleRecord(seq, fmt.Sprint("text ", seq))))
	}
	want := slices.Clone(w.kept)
	desc := func(i int) []byte { return w.descs[w.slot(ids[i])*24:] }
	copy(desc(0), le(8, ids[0]|1<<62))               // committed
	copy(desc(1), le(8, ids[1]))                     // reserved
	copy(desc(2), le(8, ids[2]|3<<62))               // reusable
	copy(desc(3), le(8, (ids[3]-16)|2<<62))          // another one's
	copy(desc(4)[8:], append(le(8, 1), le(8, 1)...)) // failed
	copy(w.text[binary.LittleEndian.Uint64(desc(5)[8:])%1024:], le(8, ids[5]+16))
	copy(w.infos[w.slot(ids[6])*88+16:], le(2, 1000)) // more than there is
	want[4].Text, want[4].Lost = "", true
	want[5].Text, want[5].Lost = "", true
	want[6].Text += "\x00\x00"
	want = append(want[:1], want[4:]...)
	got, err := collect(t, plainKernel(w.space(t), logInfo))
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
}

// changing is a Space in which something happens before one of its transfers.
type changing struct {
	remora.Space
	calls, at int
	happens   func()
}

func (c *changing) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if c.calls++; c.calls == c.at {
		c.happens()
	}
	return c.Space.Transfer(ctx, op, segs)
}

// TestLogRingThatIsWritten: the text of a record that gives way to another one while it
// is read is nobody's.
func TestLogRingThatIsWritten(t *testing.T) {
	w := newLogWriter(4, 10)
	var ids []uint64
	for seq := range uint64(8) {
		ids = append(ids, w.add(sampleRecord(seq, "text")))
	}
	calls := 0
	for at := 1; at == 1 || at <= calls; at++ {
		s := w.in(t, memtest.NewSparse(&memtest.SparseOptions{Live: true}))
		before := plainKernel(s, logInfo)
		want, err := collect(t, before)
		if err != nil || !cmp.Equal(want, w.kept) {
			t.Fatalf("%v\n%s", err, cmp.Diff(w.kept, want))
		}
		c := &changing{Space: s, at: at, happens: func() {
			poke(t, s, logDescAt+remora.Addr(w.slot(ids[2])*24), le(8, ids[2]+16))
		}}
		got, err := collect(t, kernelIn(c, s, logInfo))
		calls = c.calls
		if err != nil || len(got) < 7 {
			t.Fatalf("a change before transfer %d: %d records, %v", at, len(got), err)
		}
		if len(got) == 8 && (!got[2].Lost || got[2].Text != "") {
			t.Errorf("a change before transfer %d: %+v", at, got[2])
		}
	}
	if calls < 5 {
		t.Errorf("%d transfers", calls)
	}
}

// TestLogRingOfLostMemory gives what there is.
func TestLogRingOfLostMemory(t *testing.T) {
	w := newLogWriter(7, 13)
	for seq := range uint64(100) {
		w.add(sampleRecord(seq, strings.Repeat("x", 64)))
	}
	s := w.space(t)
	if err := s.Map(remora.Range{Start: logTextAt + 4096, Size: 4096}, memtest.MapOptions{Perm: remora.PermRead, Fault: remora.ErrNotSaved}); err != nil {
		t.Fatal(err)
	}
	got, err := collect(t, plainKernel(s, logInfo))
	missing := 0
	for i, r := range got {
		if r.Err == nil && r.Text == w.kept[i].Text {
			continue
		}
		if missing++; !errors.Is(r.Err, remora.ErrNotSaved) || !strings.HasPrefix(w.kept[i].Text, r.Text) {
			t.Errorf("%+v", r)
		}
	}
	if err != nil || len(got) != len(w.kept) || missing != 44 {
		t.Errorf("%d records of %d, %d without text, %v", len(got), len(w.kept), missing, err)
	}
	if err := s.Map(remora.Range{Start: logInfoAt, Size: 4096}, memtest.MapOptions{Perm: remora.PermRead, Fault: remora.ErrTruncated}); err != nil {
		t.Fatal(err)
	}
	if _, err := collect(t, plainKernel(s, logInfo)); !errors.Is(err, remora.ErrTruncated) {
		t.Errorf("%v", err)
	}
}

// TestLogOfHostileKernels wants an error, and soon.
func TestLogOfHostileKernels(t *testing.T) {
	w := newLogWriter(4, 10)
	for seq := range uint64(8) {
		w.add(sampleRecord(seq, "text"))
	}
	for _, v := range []uint64{0, 1, 5, 27, 28, 31, 32, 63, 64, 1 << 31, 1<<62 - 1, 1 << 62, 1<<63 - 1, 1 << 63, ^uint64(4095), ^uint64(7), ^uint64(0)} {
		for off := 0; off < 88; off += 8 {
			s := w.space(t)
			poke(t, s, logRingAt+remora.Addr(off), le(8, v))
			got, err := collect(t, plainKernel(s, logInfo))
			if err != nil && !errors.Is(err, remora.ErrCorrupt) && !errors.Is(err, remora.ErrFault) || len(got) > 16 {
				t.Errorf("0x%x at %d of the ring: %d records, %v", v, off, len(got), err)
			}
		}
		for off := 8; off < 24; off += 8 {
			s := w.space(t)
			poke(t, s, logDescAt+remora.Addr(w.slot(w.id)*24)+remora.Addr(off), le(8, v))
			if got, err := collect(t, plainKernel(s, logInfo)); err != nil || len(got) != 8 {
				t.Errorf("0x%x at %d of a descriptor: %d records, %v", v, off, len(got), err)
			}
		}
	}
	for line := range strings.Lines(logInfo) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		for _, v := range []string{"0", "7", "80", "87", "1000", "65535", "65536", "18446744073709551615", "words", value + "=", "-"} {
			text := strings.ReplaceAll(logInfo, line, key+"="+v+"\n")
			if v == "-" {
				text = strings.ReplaceAll(logInfo, line, "")
			}
			if got, err := collect(t, plainKernel(w.space(t), text)); len(got) > 16 {
				t.Errorf("%s=%s: %d records, %v", key, v, len(got), err)
			}
		}
	}
}

func FuzzLogRing(f *testing.F) {
	w := newLogWriter(3, 7)
	for seq := range uint64(20) {
		w.add(sampleRecord(seq, "some text"))
	}
	f.Add(w.ring(), w.descs, w.infos, w.text)
	f.Fuzz(func(t *testing.T, ring, descs, infos, text []byte) {
		s := memtest.NewSparse(nil)
		store(t, s, logPtrAt, le(8, uint64(logRingAt)))
		for _, p := range []struct {
			at   remora.Addr
			data []byte
		}{{logRingAt, ring}, {logDescAt, descs}, {logInfoAt, infos}, {logTextAt, text}} {
			store(t, s, p.at, append(p.data[:min(len(p.data), 1<<14):min(len(p.data), 1<<14)], 0))
		}
		n := 0
		for r, err := range plainKernel(s, logInfo).Log(t.Context()) {
			if n++; n > 1<<14 || err == nil && r.Err == nil && len(r.Text) > 65535 {
				t.Fatalf("%d records, %d bytes, %v", n, len(r.Text), err)
			}
		}
	})
}
