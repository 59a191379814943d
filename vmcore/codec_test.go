// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"hash/adler32"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/remora-go/remora/internal/testimage"
)

// deflate packs b at one of the levels that there are.
func deflate(t testing.TB, b []byte, level int) []byte {
	var out bytes.Buffer
	w, err := zlib.NewWriterLevel(&out, level)
	if err == nil {
		_, err = w.Write(b)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// reference inflates src, which must give exactly a page of size bytes.
func reference(src []byte, size int) ([]byte, error) {
	r, err := zlib.NewReader(bytes.NewReader(src))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(r, int64(size)+1))
	if err == nil && len(b) != size {
		err = fmt.Errorf("%d bytes", len(b))
	}
	return b, err
}

// somePages gives pages of all kinds.
func somePages(size int) [][]byte {
	var all [][]byte
	mem := testimage.Random(3, size, 200)
	for _, pfn := range mem.PFNs() {
		if b, class := mem.Page(pfn); class == testimage.Saved {
			all = append(all, b)
		}
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for range 40 { // short symbols of very different frequency, for long codes
		b := make([]byte, size)
		for i := range b {
			b[i] = byte(rng.ExpFloat64() * float64(1+rng.IntN(20)))
		}
		all = append(all, b)
	}
	return all
}

// TestInflate compares the inflater with the standard library's, on what is sound and on
// what is damaged.
func TestInflate(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for _, size := range []int{4096, 65536} {
		dst := make([]byte, size)
		var f inflater
		for i, page := range somePages(size) {
			if i%(size/4096) != 0 {
				continue
			}
			src := deflate(t, page, i%12-2)
			if err := f.zlib(dst, src); err != nil || !bytes.Equal(dst, page) {
				t.Fatalf("page %d of %d bytes, level %d: %v", i, size, i%12-2, err)
			}
			for i := range 8 {
				if RaceEnabled && i > 1 {
					break
				}
				bad := bytes.Clone(src)
				switch rng.IntN(3) {
				case 0:
					bad = bad[:rng.IntN(len(bad))]
				default:
					for range 1 + rng.IntN(3) {
						bad[rng.IntN(len(bad))] ^= 1 << rng.IntN(8)
					}
				}
				sameInflate(t, &f, bad, size)
			}
		}
	}
}

// sameInflate fails unless the inflater and the reference agree.
func sameInflate(t *testing.T, f *inflater, src []byte, size int) {
	t.Helper()
	dst := make([]byte, size)
	err := f.zlib(dst, src)
	want, refErr := reference(src, size)
	if (err == nil) != (refErr == nil) {
		t.Fatalf("%v; the reference says %v, of %x", err, refErr, src)
	}
	if err == nil && !bytes.Equal(dst, want) {
		t.Fatalf("wrong bytes of %x", src)
	}
}

// FuzzInflate compares the inflater with the standard library's.
func FuzzInflate(f *testing.F) {
	for i, page := range somePages(4096)[:40] {
		var out bytes.Buffer
		w, _ := zlib.NewWriterLevel(&out, i%12-2)
		_, _ = w.Write(page[:1+i*100])
		_ = w.Close()
		f.Add(out.Bytes(), uint16(1+i*100))
	}
	f.Fuzz(func(t *testing.T, src []byte, size uint16) { sameInflate(t, new(inflater), src, int(size)) })
}

// FuzzLZO gives the other algorithms what is no page: they must neither panic nor take
// what is too short or too long.
func FuzzLZO(f *testing.F) {
	flags := []uint32{kdumpLZO, kdumpSnappy, kdumpZstd}
	for i, m := range []testimage.Method{testimage.LZO1X, testimage.Snappy, testimage.Zstd} {
		for _, page := range somePages(4096)[:10] {
			f.Add(m.Pack(page), uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, src []byte, which uint8) {
		var c codec
		dst := make([]byte, 4096+8)
		copy(dst[4096:], "sentinel")
		err := c.inflate(dst[:4096], src, flags[int(which)%len(flags)])
		if string(dst[4096:]) != "sentinel" {
			t.Fatal("written beyond the page")
		}
		if err == nil && len(src) == 0 {
			t.Fatal("a page of nothing")
		}
	})
}

// TestCodecs inflates pages that are as they must be, too short, too long or damaged.
func TestCodecs(t *testing.T) {
	page := bytes.Repeat([]byte("a page of text, "), 256)
	dst := make([]byte, len(page))
	for _, m := range []testimage.Method{testimage.Zlib, testimage.LZO1X, testimage.Snappy, testimage.Zstd} {
		t.Run(m.String(), func(t *testing.T) {
			var c codec
			flags := uint32(m)
			src := m.Pack(page)
			if err := c.inflate(dst, src, flags); err != nil || !bytes.Equal(dst, page) {
				t.Fatal(err)
			}
			if err := c.inflate(dst, m.Pack(page[:4095]), flags); err == nil {
				t.Error("a short page was taken")
			} else if m != testimage.Snappy && !errors.Is(err, errInflatedShort) {
				t.Errorf("a short page: %v", err)
			}
			if err := c.inflate(dst, m.Pack(append(page[:4096:4096], 'x')), flags); err == nil {
				t.Error("a long page was taken")
			} else if !errors.Is(err, errInflatedLong) {
				t.Errorf("a long page: %v", err)
			}
			for n := range len(src) {
				if err := c.inflate(dst, src[:n], flags); err == nil {
					t.Errorf("%d of %d bytes were enough", n, len(src))
				}
			}
			if err := c.inflate(dst, src, flags); err != nil || !bytes.Equal(dst, page) {
				t.Fatalf("after damage: %v", err)
			}
		})
	}
}

func BenchmarkInflate(b *testing.B) {
	var pages [][]byte
	mem := programPages(b, 512)
	for pfn := range uint64(512) {
		page, _ := mem.Page(pfn)
		pages = append(pages, deflate(b, page, 1))
	}
	var f inflater
	dst := make([]byte, 4096)
	b.SetBytes(4096)
	i := 0
	for b.Loop() {
		if err := f.zlib(dst, pages[i%len(pages)]); err != nil {
			b.Fatal(err)
		}
		i++
	}
}

// TestAdler holds the checksum against the standard library's, at the largest bytes too.
func TestAdler(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	full := bytes.Repeat([]byte{0xff}, 1<<16)
	noise := make([]byte, 1<<16)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	for _, all := range [][]byte{full, noise} {
		for size := range 600 {
			if got, want := adler(all[size:2*size]), adler32.Checksum(all[size:2*size]); got != want {
				t.Fatalf("of %d bytes: %#x, want %#x", size, got, want)
			}
		}
		if got, want := adler(all), adler32.Checksum(all); got != want {
			t.Errorf("of %d bytes: %#x, want %#x", len(all), got, want)
		}
	}
}
