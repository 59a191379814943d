// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// noise is n bytes, some of them runs of zeros.
func noise(seed uint64, n int) []byte {
	rng := rand.New(rand.NewPCG(seed, 9))
	b := make([]byte, n)
	for i := range b {
		if i/100%5 != 0 {
			b[i] = byte(rng.Uint32())
		}
	}
	return b
}

// contents are all bytes of a source.
func contents(t *testing.T, s *source) []byte {
	t.Helper()
	b := make([]byte, s.size)
	if n, err := s.r.ReadAt(b, 0); n != len(b) || err != nil && err != io.EOF {
		t.Fatalf("%d of %d bytes, %v", n, len(b), err)
	}
	return b
}

// TestFlatRandom unwraps streams of random records, and reads them in all sizes.
func TestFlatRandom(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 3))
		want := noise(seed, 1+rng.IntN(50000))
		b := testimage.Flatten(want, testimage.FlatOptions{Seed: seed, Max: 1 << (1 + seed%13), Shuffle: seed%2 == 0,
			Rewrite: rng.IntN(100), SkipZeros: seed%3 == 0})
		s, err := unwrapFlat(kdumpFile("stream", b))
		if err != nil {
			t.Fatal(seed, err)
		}
		if s.lost != nil || !s.flat || s.size > int64(len(want)) {
			t.Fatalf("%d: %+v", seed, s)
		}
		want = want[:s.size] // zeros at the end may be in no record
		if !bytes.Equal(contents(t, s), want) {
			t.Fatal(seed, "other contents")
		}
		if seed < 3 {
			if err := iotest.TestReader(io.NewSectionReader(s.r, 0, s.size), want); err != nil {
				t.Fatal(seed, err)
			}
		}
		for range 200 {
			off := rng.Int64N(s.size)
			got := make([]byte, 1+rng.Int64N(1<<rng.Int64N(15)))
			n, err := s.r.ReadAt(got, off)
			if n != min(len(got), len(want)-int(off)) || (n < len(got)) != (err == io.EOF) || !bytes.Equal(got[:n], want[off:][:n]) {
				t.Fatalf("%d: %d of %d bytes at %d, %v, or wrong ones", seed, n, len(got), off, err)
			}
			if at := s.at(off); want[off] != 0 && b[at] != want[off] {
				t.Fatalf("%d: place says %d for %d", seed, at, off)
			}
		}
	}
}

// TestFlatOverwrite lays records over one another in all ways, against a plain model.
func TestFlatOverwrite(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 4))
		var want []byte
		var records []testimage.FlatRecord
		for range 1 + rng.IntN(12) {
			r := testimage.FlatRecord{Off: int64(rng.IntN(60)), Data: noise(rng.Uint64(), 1+rng.IntN(30))}
			records = append(records, r)
			if end := int(r.Off) + len(r.Data); end > len(want) {
				want = append(want, make([]byte, end-len(want))...)
			}
			copy(want[r.Off:], r.Data)
		}
		s, err := unwrapFlat(kdumpFile("stream", testimage.FlatBytes(records, true)))
		if err != nil {
			t.Fatal(err)
		}
		if got := contents(t, s); !bytes.Equal(got, want) {
			t.Fatalf("%d: %x\nwant %x", seed, got, want)
		}
		f := s.r.(*flat)
		for i := range f.pieces {
			if i > 0 && f.pieces[i-1].end() > f.pieces[i].off() {
				t.Fatal(seed, "pieces overlap")
			}
		}
		if cap(f.pieces) > len(f.pieces)+1 {
			t.Errorf("%d pieces in room for %d", len(f.pieces), cap(f.pieces))
		}
	}
}

// TestFlatDamage cuts streams off, and makes their fields hostile.
func TestFlatDamage(t *testing.T) {
	payload := noise(1, 5000)
	good := testimage.Flatten(payload, testimage.FlatOptions{Max: 500})
	record := func(off, size int64) []byte {
		return testimage.FlatBytes([]testimage.FlatRecord{{Off: 0, Data: payload[:100]}, {Off: off, Size: size, Data: []byte{1}}}, true)
	}
	const second = 4096 + 16 + 100
	put := func(at int, v byte) []byte {
		b := bytes.Clone(good)
		b[at] = v
		return b
	}
	for _, tc := range []struct {
		name string
		b    []byte
		off  int64
		err  error
	}{
		{"no stream", payload, 0, remora.ErrUnrecognized},
		{"nothing", nil, 0, remora.ErrUnrecognized},
		{"half a head", good[:2000], 2000, remora.ErrTruncated},
		{"type", put(23, 2), 16, remora.ErrCorrupt},
		{"version", put(31, 9), 24, remora.ErrCorrupt},
		{"negative offset", record(-2, 1), second, remora.ErrCorrupt},
		{"end with a size", record(-1, 5), second, remora.ErrCorrupt},
		{"negative size", record(5, -1), second + 8, remora.ErrCorrupt},
		{"far offset", record(1<<62, 1), second, remora.ErrCorrupt},
		{"far size", record(1, 1<<63-1), second + 8, remora.ErrCorrupt},
		{"far end", record(1<<48, 1), second, remora.ErrCorrupt},
		{"beyond all reach", record(10<<20, 1), second, remora.ErrCorrupt},
	} {
		_, err := unwrapFlat(kdumpFile("stream", tc.b))
		var bad *remora.FormatError
		if !errors.As(err, &bad) || bad.File != "stream" || bad.Offset != tc.off || !errors.Is(err, tc.err) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestFlatCut cuts a stream off at every byte of some records: what came before counts,
// and the rest is lost.
func TestFlatCut(t *testing.T) {
	payload := noise(2, 900)
	records := testimage.FlatRecords(payload, testimage.FlatOptions{Max: 200})
	b := testimage.FlatBytes(records, true)
	for n := flatHead; n < len(b); n++ {
		s, err := unwrapFlat(kdumpFile("stream", b[:n]))
		if err != nil {
			t.Fatal(n, err)
		}
		var bad *remora.FormatError
		if !errors.As(s.lost, &bad) || bad.Err != remora.ErrTruncated {
			t.Fatalf("cut off at %d: %v", n, s.lost)
		}
		want, at := int64(0), flatHead
		for _, r := range records {
			at += 16
			want += int64(max(0, min(len(r.Data), n-at)))
			at += len(r.Data)
		}
		if s.size != want || !bytes.Equal(contents(t, s), payload[:want]) {
			t.Fatalf("cut off at %d: %d bytes, want %d", n, s.size, want)
		}
	}
	s, err := unwrapFlat(kdumpFile("stream", append(b[:len(b)-16], make([]byte, 1<<16)...)))
	if err != nil || s.lost == nil || !strings.Contains(s.lost.Error(), "zeros") || s.size != int64(len(payload)) {
		t.Errorf("a tail of zeros: %v, %+v", err, s)
	}
}

// TestFlatGap: what no record holds is zeros only where the stream has an end.
func TestFlatGap(t *testing.T) {
	records := []testimage.FlatRecord{{Off: 0, Data: []byte("head")}, {Off: 100, Data: []byte("tail")}}
	b := make([]byte, 50)
	whole, _ := unwrapFlat(kdumpFile("stream", testimage.FlatBytes(records, true)))
	if err := whole.load(b, 2); err != nil || string(b[:3]) != "ad\x00" {
		t.Errorf("%q, %v", b, err)
	}
	cut, _ := unwrapFlat(kdumpFile("stream", testimage.FlatBytes(records, false)))
	if err := cut.load(b, 2); err != remora.ErrTruncated {
		t.Error(err)
	}
	if err := cut.load(b[:4], 100); err != nil || string(b[:4]) != "tail" {
		t.Error(err)
	}
}

// countingReader counts calls and bytes.
type countingReader struct {
	r            io.ReaderAt
	calls, bytes int64
}

func (c *countingReader) ReadAt(b []byte, off int64) (int, error) {
	c.calls++
	c.bytes += int64(len(b))
	return c.r.ReadAt(b, off)
}

// TestFlatScan: indexing reads short records many at a time, and of long ones no more
// than their headers.
func TestFlatScan(t *testing.T) {
	for _, tc := range []struct{ record, most int }{{40, 1 << 20 / 40 / 500}, {64 << 10, 1<<20/(64<<10) + 5}} {
		payload := noise(3, 1<<20)
		var records []testimage.FlatRecord
		for at := 0; at < len(payload); at += tc.record {
			records = append(records, testimage.FlatRecord{Off: int64(at), Data: payload[at:min(at+tc.record, len(payload))]})
		}
		src := kdumpFile("stream", testimage.FlatBytes(records, true))
		c := &countingReader{r: src.r}
		src.r = c
		s, err := unwrapFlat(src)
		if err != nil {
			t.Fatal(err)
		}
		if c.calls > int64(tc.most) {
			t.Errorf("%d reads for %d records of %d bytes", c.calls, len(records), tc.record)
		}
		if tc.record > 1<<15 && c.bytes > 1<<16 {
			t.Errorf("%d bytes read for %d headers", c.bytes, len(records))
		}
		c.calls = 0
		if !bytes.Equal(contents(t, s), payload) || c.calls > 1<<20/flatTogether+10 {
			t.Errorf("%d reads of contents in records of %d bytes", c.calls, tc.record)
		}
	}
}

// FuzzFlat gives unwrapFlat anything; what it takes is read.
func FuzzFlat(f *testing.F) {
	payload := noise(4, 3000)
	f.Add(testimage.Flatten(payload, testimage.FlatOptions{Max: 300})[flatHead:])
	f.Add(testimage.Flatten(payload, testimage.FlatOptions{Max: 300, Rewrite: 20, Shuffle: true, NoEnd: true})[flatHead:])
	f.Add(testimage.Flatten(payload, testimage.FlatOptions{Max: 300, Cut: 100})[flatHead:])
	head := testimage.FlatBytes(nil, false)
	f.Fuzz(func(t *testing.T, records []byte) {
		s, err := unwrapFlat(kdumpFile("stream", append(head[:flatHead:flatHead], records...)))
		if err != nil {
			var bad *remora.FormatError
			if !errors.As(err, &bad) || bad.Offset < 0 {
				t.Fatal(err)
			}
			return
		}
		b := make([]byte, 5000)
		for _, off := range []int64{0, s.size / 2, s.size - 1, s.size - 4000} {
			if off < 0 {
				continue
			}
			n, err := s.r.ReadAt(b, off)
			if int64(n) != min(int64(len(b)), max(s.size-off, 0)) {
				t.Fatal(fmt.Sprint(n, " bytes at ", off, " of ", s.size, ": ", err))
			}
			s.at(off)
		}
	})
}
