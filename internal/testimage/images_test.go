// SPDX-License-Identifier: Apache-2.0

package testimage_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/snappy"

	"github.com/remora-go/remora/internal/testimage"
)

// unflatten puts the records of a flattened file in their places.
func unflatten(t *testing.T, b []byte) (out []byte, ended bool) {
	t.Helper()
	be := binary.BigEndian
	if string(b[:16]) != "makedumpfile\x00\x00\x00\x00" || be.Uint64(b[16:]) != 1 || be.Uint64(b[24:]) != 1 {
		t.Fatalf("%q", b[:32])
	}
	for b = b[4096:]; len(b) >= 16; {
		off, size := int64(be.Uint64(b)), int64(be.Uint64(b[8:]))
		if b = b[16:]; off == -1 {
			return out, true
		}
		if end := int(off + size); end > len(out) {
			out = append(out, make([]byte, end-len(out))...)
		}
		copy(out[off:], b[:size])
		b = b[size:]
	}
	return out, false
}

func TestFlatten(t *testing.T) {
	k := testimage.NewKdump(testimage.Random(4, 4096, 50))
	k.Compress = testimage.Zlib
	want := k.Bytes()
	for _, o := range []testimage.FlatOptions{
		{},
		{Seed: 1, Max: 70000},
		{Seed: 2, Max: 300, Shuffle: true},
		{Seed: 3, Rewrite: 100},
		{Seed: 4, Max: 1000, Shuffle: true, Rewrite: 500, SkipZeros: true},
		{Seed: 5, NoEnd: true},
	} {
		t.Run(fmt.Sprintf("%+v", o), func(t *testing.T) {
			flat := testimage.Flatten(want, o)
			if got, ended := unflatten(t, flat); !bytes.Equal(got, want) || ended == o.NoEnd {
				t.Errorf("%d bytes of %d, end record: %v", len(got), len(want), ended)
			}
			o.Cut = 5
			if cut := testimage.Flatten(want, o); !bytes.Equal(cut, flat[:len(flat)-5]) {
				t.Error("cut is not the same, shorter")
			}
		})
	}
}

func TestLiME(t *testing.T) {
	mem := testimage.Random(5, 4096, 100)
	for name, o := range map[string]testimage.LiMEOptions{
		"runs": {},
		"odd":  {Ranges: []testimage.Range{{0x1010, 0x1011}, {0x2003, 0x9fc00}}},
		"AVML": {AVML: true},
	} {
		t.Run(name, func(t *testing.T) {
			b := mem.LiME(o)
			var ranges []testimage.Range
			for len(b) > 0 {
				magic, version := string(b[:4]), le.Uint32(b[4:])
				first, last := le.Uint64(b[8:]), le.Uint64(b[16:])
				ranges = append(ranges, testimage.Range{Start: first, End: last + 1})
				data := b[32:]
				if o.AVML {
					if magic != "AVML" || version != 2 {
						t.Fatalf("magic %q, version %d", magic, version)
					}
					// The stream ends where what it gives is the range.
					all := make([]byte, last+1-first)
					r := bytes.NewReader(data)
					if _, err := io.ReadFull(snappy.NewReader(io.Reader(r)), all); err != nil {
						t.Fatal(err)
					}
					used := uint64(len(data) - r.Len())
					if size := le.Uint64(data[used:]); size != used {
						t.Fatalf("%d bytes of frames, %d said", used, size)
					}
					b, data = data[used+8:], all
				} else {
					if magic != "EMiL" || version != 1 {
						t.Fatalf("magic %q, version %d", magic, version)
					}
					b, data = data[last+1-first:], data[:last+1-first]
				}
				checkMemory(t, mem, first, data)
			}
			want := o.Ranges
			if want == nil {
				for _, r := range mem.RAM() {
					want = append(want, testimage.Range{Start: r.First * 4096, End: r.End * 4096})
				}
			}
			if !slices.Equal(ranges, want) {
				t.Errorf("ranges %#x, want %#x", ranges, want)
			}
		})
	}
}

// checkMemory holds bytes from a physical address against the memory, where what is
// not saved is zeros.
func checkMemory(t *testing.T, mem *testimage.Physical, addr uint64, b []byte) {
	t.Helper()
	size := uint64(mem.Size())
	for len(b) > 0 {
		page, _ := mem.Page(addr / size)
		if page == nil {
			page = make([]byte, size)
		}
		want := page[addr%size:]
		want = want[:min(len(want), len(b))]
		if !bytes.Equal(b[:len(want)], want) {
			t.Fatalf("%d bytes at %#x differ", len(want), addr)
		}
		b, addr = b[len(want):], addr+uint64(len(want))
	}
}

func TestRaw(t *testing.T) {
	mem := testimage.Random(6, 4096, 100)
	end := mem.End() * 4096
	all := mem.Raw(testimage.RawOptions{})
	if uint64(len(all)) != end {
		t.Errorf("%d bytes, want %d", len(all), end)
	}
	checkMemory(t, mem, 0, all)
	checkMemory(t, mem, 0x3000, mem.Raw(testimage.RawOptions{Base: 0x3000}))
	b := mem.Raw(testimage.RawOptions{HoleStart: 0x5000, HoleSize: 0x8000, Size: end + 0x1000})
	if uint64(len(b)) != end+0x1000-0x8000 {
		t.Errorf("%d bytes with a hole", len(b))
	}
	checkMemory(t, mem, 0, b[:0x5000])
	checkMemory(t, mem, 0xd000, b[0x5000:])
	b = mem.Raw(testimage.RawOptions{Ranges: []testimage.Range{{Start: 0x9000, End: 0xb000}, {Start: 0x100, End: 0x200}}})
	checkMemory(t, mem, 0x9000, b[:0x2000])
	checkMemory(t, mem, 0x100, b[0x2000:])
}

func TestPhysical(t *testing.T) {
	mem := &testimage.Physical{Runs: []testimage.Run{
		{First: 10, End: 20, Class: testimage.Excluded}, {First: 20, End: 30, Class: testimage.Saved}}}
	mem.Set(5, []byte("five"))
	mem.Set(12, []byte("twelve"))
	mem.Set(30, nil)
	mem.Mark(31, 2, testimage.Lost)
	mem.Mark(5, 1, testimage.Excluded)
	mem.Pages[25] = testimage.Page{Class: testimage.Hole}
	want := []testimage.Run{
		{First: 5, End: 6, Class: testimage.Excluded},
		{First: 10, End: 12, Class: testimage.Excluded},
		{First: 12, End: 13, Class: testimage.Saved},
		{First: 13, End: 20, Class: testimage.Excluded},
		{First: 20, End: 25, Class: testimage.Saved},
		{First: 26, End: 31, Class: testimage.Saved},
		{First: 31, End: 33, Class: testimage.Lost},
	}
	if got := slices.Collect(mem.All()); !slices.Equal(got, want) {
		t.Errorf("runs are %v, want %v", got, want)
	}
	for _, r := range want {
		for pfn := r.First; pfn < r.End; pfn++ {
			data, class := mem.Page(pfn)
			if class != r.Class || (data != nil) != (class == testimage.Saved) {
				t.Errorf("page %d is %v", pfn, class)
			}
		}
	}
	for _, pfn := range []uint64{0, 6, 9, 25, 33} {
		if _, class := mem.Page(pfn); class != testimage.Hole {
			t.Errorf("page %d is %v", pfn, class)
		}
	}
	if mem.End() != 33 || len(mem.RAM()) != 3 {
		t.Errorf("end %d, RAM %v", mem.End(), mem.RAM())
	}
	mem.Write(4096*12+4090, []byte("across the end"))
	if a, _ := mem.Page(12); string(a[:6]) != "twelve" || string(a[4090:]) != "across" {
		t.Errorf("page 12 begins with %q", a[:8])
	}
}
