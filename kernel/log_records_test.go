// SPDX-License-Identifier: Apache-2.0

package kernel

import (
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
)

const (
	recordVarsAt = remora.Addr(0xffff_8000_0000_1000)
	recordBufAt  = recordVarsAt + 0x10000
)

// recordInfo is VMCOREINFO of a kernel with a log of records, whose headers have a size.
func recordInfo(name string, header int) string {
	return fmt.Sprintf(`SYMBOL(log_buf)=ffff800000001000
SYMBOL(log_buf_len)=ffff800000001008
SYMBOL(log_first_idx)=ffff80000000100c
SYMBOL(log_next_idx)=ffff800000001010
SIZE(%[1]s)=%[2]d
OFFSET(%[1]s.ts_nsec)=0
OFFSET(%[1]s.len)=8
OFFSET(%[1]s.text_len)=10
OFFSET(%[1]s.dict_len)=12
`, name, header)
}

// recordWriter writes a log of records.
type recordWriter struct {
	header      int
	buf         []byte
	first, next uint64
	kept        []LogRecord
}

func (w *recordWriter) encode(r LogRecord) []byte {
	dict := ""
	if r.Subsystem != "" {
		dict = "SUBSYSTEM=" + r.Subsystem + "\x00DEVICE=" + r.Device
	}
	b := slices.Concat(le(8, uint64(r.Time)), le(2, 0), le(2, uint64(len(r.Text))), le(2, uint64(len(dict))), []byte{r.Facility, r.Level<<5 | 6})
	if w.header > 16 {
		b = append(b, le(4, uint64(r.Caller))...)
	}
	b = append(b, make([]byte, w.header-len(b))...)
	b = append(b, r.Text+dict...)
	b = append(b, make([]byte, -len(b)&7)...)
	copy(b[8:], le(2, uint64(len(b))))
	return b
}

// add writes a record, and makes room for it.
func (w *recordWriter) add(r LogRecord) {
	b := w.encode(r)
	fits := func() bool {
		head := uint64(w.header)
		if w.next >= w.first && len(w.kept) > 0 || len(w.kept) == 0 {
			return max(uint64(len(w.buf))-w.next, w.first) >= uint64(len(b))+head
		}
		return w.first-w.next >= uint64(len(b))+head
	}
	for !fits() {
		w.first += uint64(len(w.encode(w.kept[0])))
		w.kept = w.kept[1:]
		if size := w.buf[w.first+8:]; size[0] == 0 && size[1] == 0 {
			w.first = 0
		}
	}
	if w.next+uint64(len(b)+w.header) > uint64(len(w.buf)) {
		clear(w.buf[w.next:][:w.header])
		w.next = 0
	}
	copy(w.buf[w.next:], b)
	w.next += uint64(len(b))
	w.kept = append(w.kept, r)
}

func (w *recordWriter) space(t testing.TB) *memtest.Sparse {
	t.Helper()
	s := memtest.NewSparse(nil)
	store(t, s, recordVarsAt, slices.Concat(le(8, uint64(recordBufAt)), le(4, uint64(len(w.buf))), le(4, w.first), le(4, w.next)))
	store(t, s, recordBufAt, w.buf)
	return s
}

func TestLogRecords(t *testing.T) {
	for _, header := range []int{16, 20, 24} {
		w := &recordWriter{header: header, buf: make([]byte, 1024)}
		for seq := range uint64(200) {
			r := sampleRecord(seq, strings.Repeat("y", int(seq*7%90)))
			if header == 16 {
				r.Caller = 0
			}
			w.add(r)
			want := slices.Clone(w.kept)
			for i := range want {
				want[i].Seq = uint64(i) // VMCOREINFO does not tell
			}
			for _, name := range []string{"printk_log", "log"} {
				got, err := collect(t, plainKernel(w.space(t), recordInfo(name, header)))
				if err != nil || !cmp.Equal(got, want) {
					t.Fatalf("header of %d, after %d, %d to %d: %v\n%s", header, seq, w.first, w.next, err, cmp.Diff(want, got))
				}
			}
		}
	}
}

// TestLogRecordsOfMuch has more than is read at a time.
func TestLogRecordsOfMuch(t *testing.T) {
	w := &recordWriter{header: 20, buf: make([]byte, 3<<20)}
	for seq := range uint64(60000) {
		w.add(sampleRecord(seq, strings.Repeat("z", 60)))
	}
	got, err := collect(t, plainKernel(w.space(t), recordInfo("printk_log", 20)))
	if err != nil || len(got) != len(w.kept) || got[len(got)-1].Text != w.kept[len(got)-1].Text || len(got) < 30000 {
		t.Fatalf("%d records of %d, %v", len(got), len(w.kept), err)
	}
}

func TestLogRecordsOfHostileKernels(t *testing.T) {
	w := &recordWriter{header: 16, buf: make([]byte, 512)}
	for seq := range uint64(20) {
		w.add(sampleRecord(seq, "some text"))
	}
	seen := 0
	for _, v := range []uint64{0, 1, 15, 16, 64, 511, 512, 513, 1<<16 - 1, 1 << 31, 1<<32 - 1} {
		for off := 8; off < 20; off += 4 {
			s := w.space(t)
			poke(t, s, recordVarsAt+remora.Addr(off), le(4, v))
			got, err := collect(t, plainKernel(s, recordInfo("printk_log", 16)))
			if err != nil && !errors.Is(err, remora.ErrCorrupt) && !errors.Is(err, remora.ErrFault) || len(got) > 64 {
				t.Errorf("0x%x at %d: %d records, %v", v, off, len(got), err)
			}
			if errors.Is(err, remora.ErrCorrupt) {
				seen++
			}
		}
		for off := 8; off < 14; off += 2 {
			s := w.space(t)
			poke(t, s, recordBufAt+remora.Addr(w.first)+remora.Addr(off), le(2, v))
			if got, err := collect(t, plainKernel(s, recordInfo("printk_log", 16))); len(got) > 64 {
				t.Errorf("0x%x at %d of a record: %d records, %v", v, off, len(got), err)
			}
		}
	}
	if seen == 0 {
		t.Error("nothing was found to be corrupt")
	}
}

// Where VMCOREINFO does not say where the length is, types say that, and may say that it has
// more bits than it has ever had.
func TestLogRecordsOfLongLengths(t *testing.T) {
	w := &recordWriter{buf: make([]byte, 3<<20), next: 2 << 20}
	copy(w.buf[8:], le(4, 2<<20))
	info, _, _ := strings.Cut(recordInfo("printk_log", 20), "SIZE")
	b := &testimage.BTF{}
	u64, u32, u16 := b.Int("u64", 8, false), b.Int("u32", 4, false), b.Int("u16", 2, false)
	b.Struct("printk_log", 20, member("ts_nsec", u64, 0), member("len", u32, 8), member("text_len", u16, 12), member("dict_len", u16, 14))
	k := plainKernel(w.space(t), info)
	answered(&k.types, typesOf(t, b))
	if got, err := collect(t, k); !errors.Is(err, remora.ErrCorrupt) || len(got) > 0 {
		t.Errorf("%d records, %v", len(got), err)
	}

	w = &recordWriter{buf: make([]byte, 40), next: 40}
	copy(w.buf[8:], le(2, 20))
	copy(w.buf[28:], le(2, 20))
	b = &testimage.BTF{}
	u64, u16 = b.Int("u64", 8, false), b.Int("u16", 2, false)
	b.Struct("printk_log", 20, member("ts_nsec", u64, 0), member("len", u16, 8), member("text_len", u16, 10), member("dict_len", u64, 14))
	k = plainKernel(w.space(t), info)
	answered(&k.types, typesOf(t, b))
	if got, err := collect(t, k); !errors.Is(err, remora.ErrCorrupt) || len(got) > 0 {
		t.Errorf("%d records, %v", len(got), err)
	}
}

func FuzzLogRecords(f *testing.F) {
	w := &recordWriter{header: 20, buf: make([]byte, 256)}
	for seq := range uint64(20) {
		w.add(sampleRecord(seq, "some text"))
	}
	f.Add(w.buf, uint32(w.first), uint32(w.next))
	f.Fuzz(func(t *testing.T, buf []byte, first, next uint32) {
		w := recordWriter{buf: append(buf[:min(len(buf), 1<<14):min(len(buf), 1<<14)], 0), first: uint64(first), next: uint64(next)}
		n := 0
		for r, err := range plainKernel(w.space(t), recordInfo("printk_log", 20)).Log(t.Context()) {
			if n++; n > 1<<14 || err == nil && len(r.Text) > 65535 {
				t.Fatalf("%d records, %d bytes, %v", n, len(r.Text), err)
			}
		}
	})
}

func TestLogRecordAppend(t *testing.T) {
	for _, c := range []struct {
		r    LogRecord
		want string
	}{
		{LogRecord{Text: "one\ntwo\x1b[2J\tthree\x7f\xff"}, "[    0.000000] one\ntwo\\x1b[2J\tthree\\x7f\\xff\n"},
		{LogRecord{Time: 12345678901234}, "[12345.678901] \n"},
		{LogRecord{Time: 1234567*time.Second + 999}, "[1234567.000000] \n"},
	} {
		if got := string(c.r.Append(nil)); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if got := LogCaller(1<<31|3).String() + LogCaller(77).String(); got != "C3T77" {
		t.Errorf("%q", got)
	}
	if cpu, ok := LogCaller(1<<31 | 3).CPU(); cpu != 3 || !ok {
		t.Errorf("%d, %v", cpu, ok)
	}
}
