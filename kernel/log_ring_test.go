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

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

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
