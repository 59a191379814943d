// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// smallKdump is an image of a few pages of all classes.
func smallKdump() *testimage.Kdump {
	mem := &testimage.Physical{}
	for pfn := range uint64(6) {
		mem.Set(pfn, []byte(strings.Repeat(fmt.Sprintf("page %d ", pfn), 100)))
	}
	mem.Mark(6, 2, testimage.Excluded)
	mem.Set(8, []byte("eight"))
	mem.Set(11, []byte("eleven"))
	k := testimage.NewKdump(mem)
	k.Compress = testimage.Zlib
	k.DumpLevel = 31
	k.VMCoreInfo = testimage.VMCoreInfo("OSRELEASE", "6.12.0-test", "PAGESIZE", "4096")
	return k
}

// hostile are numbers that no field of a small file holds.
var hostile = [...]uint64{0, 1, 1 << 12, 1 << 16, 1<<31 - 1, 1<<32 - 1, 1 << 40, math.MaxInt64 - 4095, math.MaxInt64,
	1 << 63, math.MaxUint64 - 4095, math.MaxUint64}

// surviveKdump opens files and reads all over the place: whatever they hold, there is no
// panic, errors are what they must be, and no allocation is large.
func surviveKdump(t *testing.T, name string, files ...[]byte) {
	t.Helper()
	m, err := openKdumpFiles(&Options{CacheBytes: 1 << 16}, files...)
	if err != nil {
		var bad *remora.FormatError
		if !errors.As(err, &bad) || !strings.HasPrefix(bad.File, "part") || bad.Want == "" || bad.Got == "" || bad.Offset < 0 {
			t.Fatalf("%s: %v", name, err)
		}
		return
	}
	defer m.Close()
	ctx := context.Background()
	buf := make([]byte, 20*4096+100)
	for _, a := range []remora.Addr{0, 5000, 3 * 4096, 8 * 4096, 11 * 4096, 12 * 4096, 1 << 32, 1 << 52, remora.MaxAddr - 5000} {
		for _, n := range []int{8, 4096, len(buf)} {
			got, err := m.Memory().ReadAt(ctx, buf[:n], a)
			if (got < n) != (err != nil) || err != nil && !errors.Is(err, remora.ErrFault) {
				t.Fatalf("%s: %d of %d bytes at %v, %v", name, got, n, a, err)
			}
		}
	}
	runs := 0
	for _, err := range m.Runs(ctx) {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if runs++; runs > 100 {
			break
		}
	}
	reports := 0
	if err := m.Check(ctx, func(e *remora.FormatError) {
		if reports++; e.File == "" || e.Want == "" || e.Got == "" || e.Offset < 0 {
			t.Errorf("%s: %v", name, e)
		}
	}); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// TestKdumpHostile gives each field of the headers and of a descriptor each of the
// hostile numbers, in all shapes of headers.
func TestKdumpHostile(t *testing.T) {
	n := 0
	for _, shape := range []int{0, 3, 5, 6} {
		k := smallKdump()
		k.BigEndian, k.Narrow, k.Packed = shape&1 != 0, shape&2 != 0, shape&4 != 0
		if shape == 5 {
			k.Version = 4
		}
		part := *k
		if shape&1 != 0 {
			part = *k.Parts(5)[0]
		}
		l, whole := part.Layout(), part.Bytes()
		d := l.DescOff(3)
		for _, f := range append(l.Fields, testimage.Field{Name: "offset", Off: d, Size: 8}, testimage.Field{Name: "size", Off: d + 8, Size: 4},
			testimage.Field{Name: "flags", Off: d + 12, Size: 4}) {
			for _, v := range hostile {
				if n++; RaceEnabled && n%5 != 0 { // other numbers for each field
					continue
				}
				surviveKdump(t, fmt.Sprintf("shape %d, %s = %#x", shape, f.Name, v), patched(whole, f, v, k.BigEndian))
			}
		}
	}
}

// patched is b with another value of a field.
func patched(b []byte, f testimage.Field, v uint64, bigEndian bool) []byte {
	b = bytes.Clone(b)
	var order binary.ByteOrder = binary.LittleEndian
	if bigEndian {
		order = binary.BigEndian
	}
	if f.Size == 4 {
		order.PutUint32(b[f.Off:], uint32(v))
	} else {
		order.PutUint64(b[f.Off:], v)
	}
	return b
}

// TestKdumpHeaderErrors: what must not open, and what the error says.
func TestKdumpHeaderErrors(t *testing.T) {
	for _, tc := range []struct {
		field     string
		value     uint64
		want, got string
	}{
		{"header_version", 7, "a version from 0 to 6", "7"},
		{"block_size", 4095, "a block size that is a power of two from 4096 to 65536", "4095"},
		{"block_size", 1 << 17, "a block size that is a power of two from 4096 to 65536", "131072"},
		{"sub_hdr_size", 0, "a sub header of 1 to 64 blocks", "0"},
		{"sub_hdr_size", 65, "a sub header of 1 to 64 blocks", "65"},
		{"bitmap_blocks", 0, "bitmaps for 1 to 2^40 pages each", "0 blocks"},
		{"bitmap_blocks", 1<<32 - 1, "bitmaps for 1 to 2^40 pages each", "4294967295 blocks"},
		{"max_mapnr_64", 1 << 17, "max_mapnr from 1 to the 65536 bits of the bitmap", "131072"},
		{"max_mapnr_64", 1<<64 - 1, "max_mapnr from 1 to the 65536 bits of the bitmap", "18446744073709551615"},
		{"start_pfn_64", 6, "a part that begins before it ends, at 12 at most", "pages 6 to 5"},
		{"end_pfn_64", 13, "a part that begins before it ends, at 12 at most", "pages 0 to 13"},
	} {
		k := smallKdump().Parts(5)[0]
		at := int64(-1)
		for _, f := range k.Layout().Fields {
			if f.Name == tc.field {
				at = f.Off
			}
		}
		if strings.HasPrefix(tc.field, "end_") {
			at -= 8 // the part is at fault, and begins with its first page
		}
		k.Lie = map[string]uint64{tc.field: tc.value}
		_, err := openKdumpFiles(nil, k.Bytes())
		var bad *remora.FormatError
		if !errors.As(err, &bad) || *bad != (remora.FormatError{File: "part0", Offset: at, Want: tc.want, Got: tc.got, Err: remora.ErrCorrupt}) {
			t.Errorf("%s = %d: %v (%+v)", tc.field, tc.value, err, bad)
		}
	}
}

// TestKdumpCut cuts files off at the borders of all that they hold, and beside them.
func TestKdumpCut(t *testing.T) {
	for _, version := range []int{0, 3, 6} {
		if RaceEnabled && version == 3 {
			continue
		}
		k := smallKdump()
		k.Version = version
		k.EraseInfo = []byte("erase")
		l := k.Layout()
		b := k.Bytes()
		borders := []int64{0, 8, 12, 402, 424, 464, 512, l.SubHeader, l.SubHeader + 8, l.SubHeader + 80, l.SubHeader + 104, l.Bitmap,
			l.Bitmap + 4096, l.Descs, l.Data, l.Notes, l.VMCoreInfo, l.Erase, l.End}
		for pfn := range l.Index {
			borders = append(borders, l.DescOff(pfn), int64(l.Pages[pfn].Off))
		}
		for _, at := range borders {
			for _, n := range []int64{at - 1, at, at + 1} {
				if n < 0 || n > int64(len(b)) {
					continue
				}
				name := fmt.Sprintf("version %d, cut off at %d", version, n)
				surviveKdump(t, name, b[:n])
				if m, err := openKdumpFiles(nil, b[:n]); err == nil {
					cutReads(t, name, m, k, l, n)
				}
			}
		}
	}
}

// TestKdumpCutProblem: what was cut off is said of when it is opened, by the offset and the
// end, wherever in the descriptors or the data the end is.
func TestKdumpCutProblem(t *testing.T) {
	zeroFirst := testimage.NewKdump(&testimage.Physical{}) // as makedumpfile has it, and QEMU
	for pfn := range uint64(300) {
		zeroFirst.Mem.Set(pfn, []byte(fmt.Sprint(pfn))[:min(pfn, 1)])
	}
	data := uint64(zeroFirst.Layout().Data)
	zeroFirst.Desc = func(pfn uint64, d *testimage.Desc) {
		if pfn < 2 {
			d.Off = data + (1-pfn)*4096
		}
	}
	old, big := smallKdump(), smallKdump()
	old.Version, big.BigEndian = 1, true
	for name, k := range map[string]*testimage.Kdump{"small": smallKdump(), "old": old, "big-endian": big, "zero page first": zeroFirst} {
		k.NotesLast = false
		k.VMCoreInfo = nil
		l, b := k.Layout(), k.Bytes()
		if bad := mustKdump(t, nil, b).Meta().Problems; len(bad) != 0 {
			t.Errorf("%s: %v", name, bad)
		}
		for n := l.Descs + 1; n < l.End; n += max(1, (l.End-l.Descs)/64) {
			bad := mustKdump(t, nil, b[:n]).Meta().Problems
			var e *remora.FormatError
			if len(bad) != 1 || !errors.As(bad[0], &e) || e.Err != remora.ErrTruncated || e.Want == "" || e.Got != fmt.Sprintf("the end of the file at 0x%x", n) {
				t.Errorf("%s: cut off at 0x%x: %v", name, n, bad)
			}
		}
	}
}

// cutReads reads the pages of an image that was cut off at n: those whose descriptor and
// data are there are right, the others lost.
func cutReads(t *testing.T, name string, m *Image, k *testimage.Kdump, l *testimage.KdumpLayout, n int64) {
	t.Helper()
	defer m.Close()
	b := make([]byte, 4096)
	for _, pfn := range k.Mem.PFNs() {
		want, class := k.Mem.Page(pfn)
		d := l.Pages[pfn]
		there := n >= l.DescOff(pfn)+24 && n >= int64(d.Off)+int64(d.Size)
		got, err := m.Memory().ReadAt(context.Background(), b, remora.Addr(pfn*4096))
		switch {
		case n < l.Descs && n < l.Bitmap+4096+1: // the second bitmap is not there
			if !errors.Is(err, remora.ErrTruncated) {
				t.Fatalf("%s: page %d: %v", name, pfn, err)
			}
		case class != testimage.Saved:
		case there && (got != 4096 || string(b) != string(want)):
			t.Fatalf("%s: page %d: %v", name, pfn, err)
		case !there && (got != 0 || !errors.Is(err, remora.ErrTruncated)):
			t.Fatalf("%s: page %d, which is not there: %v", name, pfn, err)
		case !there && !strings.Contains(err.Error(), "part0: offset 0x"):
			t.Fatalf("%s: page %d: %v does not say where", name, pfn, err)
		}
	}
}

// TestKdumpExplain: each failure says where the descriptor is, or the data.
func TestKdumpExplain(t *testing.T) {
	l := smallKdump().Layout()
	desc := func(pfn uint64) string { return fmt.Sprintf("part0: offset 0x%x: ", l.DescOff(pfn)) }
	field := func(at int64) string { return fmt.Sprintf("part0: offset 0x%x: ", l.DescOff(3)+at) }
	data := fmt.Sprintf("part0: offset 0x%x: ", l.Pages[3].Off)
	for name, tc := range map[string]struct {
		change func(d *testimage.Desc)
		cause  error
		text   []string
	}{
		"no offset":       {func(d *testimage.Desc) { *d = testimage.Desc{} }, remora.ErrTruncated, []string{desc(3), "with an offset, found none"}},
		"in the header":   {func(d *testimage.Desc) { d.Off = 4096 }, remora.ErrCorrupt, []string{desc(3), "behind the descriptors, found offset 0x1000"}},
		"negative":        {func(d *testimage.Desc) { d.Off = 1 << 63 }, remora.ErrCorrupt, []string{desc(3), "beyond 2^63"}},
		"past the end":    {func(d *testimage.Desc) { d.Off = 1 << 40 }, remora.ErrTruncated, []string{"part0: offset 0x10000000000: ", "the end of the file at 0x", fmt.Sprintf("descriptor at 0x%x", l.DescOff(3))}},
		"unknown flag":    {func(d *testimage.Desc) { d.Flags = 0x41 }, remora.ErrCorrupt, []string{field(12), "unknown bit 0x40"}},
		"status flag":     {func(d *testimage.Desc) { d.Flags = 0x9 }, remora.ErrCorrupt, []string{field(12), "unknown bit 0x8"}},
		"two flags":       {func(d *testimage.Desc) { d.Flags = 0x21 }, remora.ErrCorrupt, []string{field(12), "one algorithm, found 0x21"}},
		"large":           {func(d *testimage.Desc) { d.Size = 4097 }, remora.ErrCorrupt, []string{field(8), "at most 4096 bytes, found 4097"}},
		"raw and short":   {func(d *testimage.Desc) { d.Flags = 0 }, remora.ErrCorrupt, []string{field(8), "not compressed, found "}},
		"short data":      {func(d *testimage.Desc) { d.Size-- }, remora.ErrCorrupt, []string{data, "give 4096", "end too early"}},
		"other algorithm": {func(d *testimage.Desc) { d.Flags = 2 }, remora.ErrCorrupt, []string{data, "[lzo] that give 4096"}},
		"other data":      {func(d *testimage.Desc) { d.Off++ }, remora.ErrCorrupt, []string{"no zlib stream", fmt.Sprintf("descriptor at 0x%x", l.DescOff(3))}},
	} {
		k := smallKdump()
		k.Desc = func(pfn uint64, d *testimage.Desc) {
			if pfn == 3 {
				tc.change(d)
			}
		}
		m := mustKdump(t, nil, k.Bytes())
		for _, n := range []int{8, 5 * 4096} {
			b := make([]byte, n)
			at := remora.Addr(3 * 4096)
			if n > 8 {
				at -= 2 * 4096
			}
			got, err := m.Memory().ReadAt(context.Background(), b, at)
			if !errors.Is(err, tc.cause) || got != int(3*4096-at) {
				t.Errorf("%s: %d bytes, %v", name, got, err)
				continue
			}
			for _, text := range tc.text {
				if !strings.Contains(err.Error(), text) {
					t.Errorf("%s: %v; want %q", name, err, text)
				}
			}
		}
	}
}

// TestKdumpExplainAbsent: what is not there on purpose.
func TestKdumpExplainAbsent(t *testing.T) {
	m := mustKdump(t, nil, smallKdump().Bytes())
	for a, want := range map[remora.Addr]string{
		6 * 4096:  "read part0@phys:0x6000: not saved in this dump: left out at dump level 31",
		9 * 4096:  "read part0@phys:0x9000: no memory at this address",
		12 * 4096: "read part0@phys:0xc000: no memory at this address: this dump is of memory below 0xc000",
	} {
		if _, err := m.Memory().Uint64(context.Background(), a); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v: %v", a, err)
		}
	}
}

// FuzzKdump changes a small image: whatever comes of it, there is no panic, and what is
// reported has a place.
func FuzzKdump(f *testing.F) {
	var images [4][]byte
	for i := range images {
		k := smallKdump()
		k.Compress = testimage.Methods()[1+i]
		k.Version = 6 - i
		k.Narrow, k.BigEndian = i&1 != 0, i&2 != 0
		images[i] = k.Bytes()
		for _, at := range []int{0, 8, 420, 440, 4096, 4136, 8192, 12288, 16384, 16400, len(images[i]) - 1} {
			f.Add(uint8(i), uint32(at), []byte{1})
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, at uint32, change []byte) {
		b := bytes.Clone(images[which%4])
		for i, x := range change {
			b[(uint64(at)+uint64(i))%uint64(len(b))] ^= x
		}
		surviveKdump(t, "fuzz", b[:len(b)-int(which/4)%64])
	})
}
