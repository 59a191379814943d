// SPDX-License-Identifier: Apache-2.0

package testimage_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"testing"

	"compress/zlib"

	lzo "github.com/anchore/go-lzo"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/remora-go/remora/internal/testimage"
)

// unpack inflates a page by its flags.
func unpack(t *testing.T, z *zstd.Decoder, flags uint32, b []byte, size int) []byte {
	t.Helper()
	page := make([]byte, size)
	var err error
	switch flags {
	case 0:
		page = b
	case 1:
		var r io.Reader
		if r, err = zlib.NewReader(bytes.NewReader(b)); err == nil {
			page, err = io.ReadAll(r)
		}
	case 2:
		_, err = lzo.Decompress(b, page)
	case 4:
		page, err = snappy.Decode(nil, b)
	case 0x20:
		page, err = z.DecodeAll(b, nil)
	default:
		t.Fatalf("flags %#x", flags)
	}
	if err != nil || len(page) != size {
		t.Fatalf("flags %#x: %d bytes of %d, %v", flags, len(page), size, err)
	}
	return page
}

// offsets are those of the fields that the check of a file needs, from the tables
// of the format.
type offsets struct {
	blockSize, maxMapNr, nrCPUs                     int // in the main header
	start, end, info, infoSize, note, start64, nr64 int // in the sub header
	word                                            int
}

func offsetsOf(k *testimage.Kdump) offsets {
	switch {
	case !k.Narrow:
		return offsets{428, 440, 460, 16, 24, 32, 40, 48, 80, 96, 8}
	case k.Packed:
		return offsets{416, 428, 448, 12, 16, 20, 28, 32, 56, 72, 4}
	}
	return offsets{416, 428, 448, 12, 16, 24, 32, 40, 72, 88, 4}
}

// shapes gives a Kdump of every header there is.
func shapes(mem *testimage.Physical) map[string]*testimage.Kdump {
	all := make(map[string]*testimage.Kdump)
	for version := 0; version <= 6; version++ {
		for _, big := range []bool{false, true} {
			for _, width := range []string{"64", "32", "386"} {
				k := testimage.NewKdump(mem)
				k.Version, k.BigEndian = version, big
				k.Narrow, k.Packed = width != "64", width == "386"
				k.VMCoreInfo = testimage.VMCoreInfo("OSRELEASE", "6.12", "PAGESIZE", "4096")
				all[fmt.Sprintf("v%d,%s,big=%v", version, width, big)] = k
			}
		}
	}
	return all
}

func TestKdumpHeaders(t *testing.T) {
	mem := testimage.Random(1, 4096, 60)
	for name, k := range shapes(mem) {
		t.Run(name, func(t *testing.T) {
			k.Sec, k.Status, k.Split, k.StartPFN, k.EndPFN = 77, 1, true, 3, mem.End()
			b, o := k.Bytes(), offsetsOf(k)
			var order binary.ByteOrder = binary.LittleEndian
			if k.BigEndian {
				order = binary.BigEndian
			}
			word := func(off int) uint64 {
				if o.word == 4 {
					return uint64(order.Uint32(b[off:]))
				}
				return order.Uint64(b[off:])
			}
			check := func(what string, got, want uint64) {
				if t.Helper(); got != want {
					t.Errorf("%s is %d, want %d", what, got, want)
				}
			}
			if string(b[:8]) != "KDUMP   " || string(b[12:17]) != "Linux" || string(b[12+4*65:][:6]) != "x86_64" {
				t.Errorf("%q", b[:400])
			}
			check("version", uint64(order.Uint32(b[8:])), uint64(k.Version))
			check("seconds", word(o.blockSize-4-2*o.word), 77)
			check("status", uint64(order.Uint32(b[o.blockSize-4:])), 1)
			check("block size", uint64(order.Uint32(b[o.blockSize:])), 4096)
			check("sub header blocks", uint64(order.Uint32(b[o.blockSize+4:])), 1)
			check("bitmap blocks", uint64(order.Uint32(b[o.blockSize+8:])), 2*((mem.End()+7)/8/4096+1))
			check("max_mapnr", uint64(order.Uint32(b[o.maxMapNr:])), mem.End())
			check("CPUs", uint64(order.Uint32(b[o.nrCPUs:])), 2)
			if k.Version >= 2 {
				check("split", uint64(order.Uint32(b[4096+o.word+4:])), 1)
				check("start", word(4096+o.start), 3)
				check("end", word(4096+o.end), mem.End())
			}
			if k.Version >= 3 {
				off, size := order.Uint64(b[4096+o.info:]), word(4096+o.infoSize)
				if got := b[off:][:size]; !bytes.Equal(got, k.VMCoreInfo) {
					t.Errorf("VMCOREINFO is %q", got)
				}
			}
			if k.Version >= 4 {
				off := order.Uint64(b[4096+o.note:])
				check("name of the note", uint64(order.Uint32(b[off:])), 11)
			}
			if k.Version >= 6 {
				check("start_pfn_64", order.Uint64(b[4096+o.start64:]), 3)
				check("max_mapnr_64", order.Uint64(b[4096+o.nr64:]), mem.End())
			}
			checkPages(t, k, b)
			for _, f := range k.Layout().Fields {
				if f.Size == 4 {
					check(f.Name, uint64(order.Uint32(b[f.Off:])), f.Value)
				} else {
					check(f.Name, order.Uint64(b[f.Off:]), f.Value)
				}
			}
		})
	}
}

// checkPages holds every page of a file with blocks of 4096 bytes against the memory.
func checkPages(t *testing.T, k *testimage.Kdump, b []byte) {
	t.Helper()
	var order binary.ByteOrder = le
	if k.BigEndian {
		order = binary.BigEndian
	}
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	o := offsetsOf(k)
	size := k.Mem.Size()
	bitmap := 4096 * (1 + int(order.Uint32(b[o.blockSize+4:])))
	half := 4096 * int(order.Uint32(b[o.blockSize+8:])) / 2
	descs := bitmap + 2*half
	for pfn := range uint64(order.Uint32(b[o.maxMapNr:])) {
		ram, saved := b[bitmap+int(pfn/8)]>>(pfn%8)&1, b[bitmap+half+int(pfn/8)]>>(pfn%8)&1
		want, class := k.Mem.Page(pfn)
		if (ram == 1) != (class != testimage.Hole) || (saved == 1) != (class == testimage.Saved || class == testimage.Lost) {
			t.Fatalf("page %d is %v, its bits are %d and %d", pfn, class, ram, saved)
		}
		if saved == 0 || k.Split && (pfn < k.StartPFN || pfn >= k.EndPFN) {
			continue
		}
		d := b[descs:]
		descs += 24
		off, length, flags := order.Uint64(d), order.Uint32(d[8:]), order.Uint32(d[12:])
		if class == testimage.Lost {
			if off != 0 || length != 0 || flags != 0 {
				t.Errorf("lost page %d is at %#x", pfn, off)
			}
			continue
		}
		if got := unpack(t, z, flags, b[off:][:length], size); !bytes.Equal(got, want) {
			t.Fatalf("page %d differs", pfn)
		}
	}
}

func TestKdumpPages(t *testing.T) {
	mem := testimage.Random(2, 4096, 300)
	mem.Mark(mem.End()-3, 2, testimage.Lost)
	for _, method := range testimage.Methods() {
		t.Run(method.String(), func(t *testing.T) {
			k := testimage.NewKdump(mem)
			k.Compress = method
			checkPages(t, k, k.Bytes())
			whole := k.Layout()
			for i, b := range k.SplitFiles(3) {
				at := mem.End() / 3
				part := k.Parts(at, mem.End()*2/3)[i]
				if checkPages(t, part, b); part.EndPFN-part.StartPFN-at > 1 {
					t.Errorf("part %d is from page %d to %d of %d", i, part.StartPFN, part.EndPFN, mem.End())
				}
			}
			for _, part := range k.Parts(70, 200) {
				checkPages(t, part, part.Bytes())
				whole.Count -= part.Layout().Count
			}
			if whole.Count != 0 {
				t.Errorf("%d descriptors of the whole are in no part", whole.Count)
			}
			flags := make(map[uint32]int)
			for _, d := range whole.Pages {
				flags[d.Flags]++
			}
			if method == testimage.Mixed && len(flags) != 5 || method != testimage.None && len(flags) < 2 {
				t.Errorf("pages by their flags: %v", flags)
			}
		})
	}
}

func TestKdumpSparse(t *testing.T) {
	mem := &testimage.Physical{Runs: []testimage.Run{{16, 1 << 28, testimage.Lost}, {1 << 28, 1<<28 + 100, testimage.Excluded}}}
	mem.Set(1<<27, []byte("in the middle"))
	k := testimage.NewKdump(mem)
	var f testimage.Sparse
	l, err := k.WriteTo(&f)
	if err != nil {
		t.Fatal(err)
	}
	if want := uint64(1<<28 - 16); l.Count != want || l.Index[1<<27] != 1<<27-16 || f.Size() < 24<<28 {
		t.Errorf("%d descriptors, the page's is %d, the file has %d bytes", l.Count, l.Index[1<<27], f.Size())
	}
	page := make([]byte, 13)
	if _, err := f.ReadAt(page, int64(l.Pages[1<<27].Off)); err != nil || string(page) != "in the middle" {
		t.Errorf("the page holds %q, %v", page, err)
	}
}
