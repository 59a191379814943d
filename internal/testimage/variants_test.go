// SPDX-License-Identifier: Apache-2.0

package testimage_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/remora-go/remora/internal/testimage"
)

var le = binary.LittleEndian

// varied is a Kdump with a VMCOREINFO, notes and pages of zeros, as f has it.
func varied(f func(k *testimage.Kdump)) (*testimage.Kdump, []byte, *testimage.KdumpLayout) {
	mem := testimage.Random(11, 4096, 80)
	mem.Set(0, nil)
	mem.Set(1, nil)
	k := testimage.NewKdump(mem)
	k.VMCoreInfo = testimage.VMCoreInfo("OSRELEASE", "6.12")
	k.Notes = []testimage.Note{testimage.EraseNote("erased"), testimage.DeviceDump("card", []byte("dump"))}
	f(k)
	return k, k.Bytes(), k.Layout()
}

// field is an 8-byte field of the sub header.
func field(b []byte, off int) uint64 { return le.Uint64(b[4096+off:]) }

func TestKdumpNotes(t *testing.T) {
	t.Run("notes first", func(t *testing.T) {
		k, b, l := varied(func(*testimage.Kdump) {})
		checkPages(t, k, b)
		if field(b, 48) != 4096+104 || l.Bitmap != 8192 || l.Notes != 4096+104 {
			t.Errorf("notes at %#x, bitmap at %#x", field(b, 48), l.Bitmap)
		}
		if n := field(b, 48); string(b[n+12:][:9]) != "ERASEINFO" || !bytes.Equal(b[field(b, 32):][:field(b, 40)], k.VMCoreInfo) {
			t.Errorf("notes are %q", b[n:][:field(b, 56)])
		}
	})
	t.Run("notes last", func(t *testing.T) {
		k, b, l := varied(func(k *testimage.Kdump) { k.NotesLast, k.EraseInfo = true, []byte("erased too") })
		checkPages(t, k, b)
		if int64(field(b, 48)) < l.Data || string(b[field(b, 64):][:field(b, 72)]) != "erased too" || int64(len(b)) != l.End {
			t.Errorf("notes at %#x, erase info at %#x", field(b, 48), field(b, 64))
		}
	})
	t.Run("VMCOREINFO in notes only", func(t *testing.T) {
		k, b, _ := varied(func(k *testimage.Kdump) { k.InNotesOnly = true })
		if field(b, 32) != 0 || field(b, 40) != 0 || !bytes.Contains(b[field(b, 48):][:field(b, 56)], k.VMCoreInfo) {
			t.Errorf("VMCOREINFO at %#x", field(b, 32))
		}
	})
	t.Run("VMCOREINFO apart", func(t *testing.T) {
		k, b, _ := varied(func(k *testimage.Kdump) { k.Apart = true })
		if !bytes.Equal(b[field(b, 32):][:field(b, 40)], k.VMCoreInfo) || bytes.Contains(b[field(b, 48):][:field(b, 56)], k.VMCoreInfo) {
			t.Errorf("VMCOREINFO at %#x", field(b, 32))
		}
	})
	t.Run("many notes", func(t *testing.T) {
		k, b, l := varied(func(k *testimage.Kdump) {
			k.Notes = append(k.Notes, testimage.Note{Name: "big", Desc: make([]byte, 9000)})
		})
		checkPages(t, k, b)
		if l.Bitmap != 4096*4 || le.Uint32(b[432:]) != 3 {
			t.Errorf("bitmap at %#x", l.Bitmap)
		}
	})
}

func TestKdumpOddities(t *testing.T) {
	t.Run("zero pages", func(t *testing.T) {
		_, _, l := varied(func(k *testimage.Kdump) { k.Compress = testimage.Zlib })
		if a, b := l.Pages[0], l.Pages[1]; a != b || a.Size == 0 || a.Flags != 1 {
			t.Errorf("two pages of zeros: %+v, %+v", a, b)
		}
		_, _, l = varied(func(k *testimage.Kdump) { k.SharedZero = false })
		if a, b := l.Pages[0], l.Pages[1]; a.Off+4096 != b.Off {
			t.Errorf("two pages of zeros: %+v, %+v", a, b)
		}
		_, _, l = varied(func(k *testimage.Kdump) { k.SizeZero = true })
		if a := l.Pages[1]; a.Size != 0 || a.Off == 0 {
			t.Errorf("page of zeros: %+v", a)
		}
	})
	t.Run("one bitmap", func(t *testing.T) {
		k, b, l := varied(func(k *testimage.Kdump) { k.Version, k.OneBitmap, k.DiskDump, k.Garbage = 0, true, true, true })
		if string(b[:8]) != "DISKDUMP" || l.BitmapBlocks != 1 || l.Descs != l.Bitmap+4096 || b[4096] != 0xa5 {
			t.Errorf("%d blocks of bitmaps", l.BitmapBlocks)
		}
		for _, pfn := range k.Mem.PFNs() {
			if _, class := k.Mem.Page(pfn); (b[int(l.Bitmap)+int(pfn/8)]>>(pfn%8)&1 == 1) != (class == testimage.Saved) {
				t.Errorf("bit of page %d, %v", pfn, class)
			}
		}
	})
	t.Run("base, block", func(t *testing.T) {
		arm := &testimage.Physical{}
		arm.Set(0x80003, []byte("page"))
		k := testimage.NewKdump(arm)
		k.BasePFN, k.BlockSize = 0x80000, 16384
		b, l := k.Bytes(), k.Layout()
		if le.Uint32(b[440:]) != 4 || b[l.Bitmap] != 8 || l.Bitmap != 32768 || l.Data != 16384*4+24 {
			t.Errorf("max_mapnr %d, bits %#x at %#x", le.Uint32(b[440:]), b[l.Bitmap], l.Bitmap)
		}
	})
}

func TestKdumpLies(t *testing.T) {

	_, b, l := varied(func(k *testimage.Kdump) {
		k.Lie = map[string]uint64{"status": 0x1122334455667788, "end_pfn_64": 1 << 63}
		k.Desc = func(pfn uint64, d *testimage.Desc) {
			if pfn == 1 {
				d.Off = 12
			}
		}
	})
	if le.Uint32(b[424:]) != 0x55667788 || field(b, 88) != 1<<63 || le.Uint64(b[l.DescOff(1):]) != 12 || le.Uint64(b[l.DescOff(0):]) == 12 {
		t.Error("not as told")
	}
	for _, f := range append(l.Fields, l.DescFields(1)...) {
		if got := f.Set(b, f.Value); !bytes.Equal(got, b) {
			t.Errorf("%s is not %#x", f.Name, f.Value)
		}
		if got := f.Set(b, ^f.Value); bytes.Equal(got, b) || !slices.Contains(f.Hostile(), 1) {
			t.Errorf("%s did not change", f.Name)
		}
	}
	if cuts := l.Boundaries(); !slices.IsSorted(cuts) || cuts[len(cuts)-1] != int64(len(b)) || !slices.Contains(cuts, l.Data) {
		t.Errorf("boundaries %d", cuts)
	}
}

func TestELFFields(t *testing.T) {
	mem := testimage.Random(12, 4096, 20)
	for _, v := range []testimage.VMCore{{}, {Narrow: true}, {BigEndian: true, Extended: true}, {Narrow: true, BigEndian: true, ShdrFirst: true}} {
		v.Mem, v.Machine = mem, 62
		b := v.Bytes()
		fields := testimage.ELFFields(b)
		names := make(map[string]uint64)
		for _, f := range fields {
			names[f.Name] = f.Value
			if got := f.Set(b, f.Value); !bytes.Equal(got, b) {
				t.Errorf("%s is not %#x", f.Name, f.Value)
			}
		}
		segments, err := v.WriteTo(new(testimage.Sparse))
		if err != nil {
			t.Fatal(err)
		}
		last := segments[len(segments)-1]
		if names["e_machine"] != 62 || names["e_type"] != 4 || names["0.p_type"] != 1 || names["0.p_memsz"] != segments[0].Memsz {
			t.Errorf("%v", names)
		}
		if f := fields[len(fields)-1]; f.Name[len(f.Name)-7:] != "p_align" || !slices.ContainsFunc(fields, func(f testimage.Field) bool { return f.Value == last.Off }) {
			t.Errorf("the last field is %+v", f)
		}
	}
	fields := testimage.LiMEFields(mem.LiME(testimage.LiMEOptions{}))
	if len(fields) != 5*len(mem.RAM()) || fields[2].Value != mem.RAM()[0].First*4096 {
		t.Errorf("%v", fields)
	}
}

func TestHostile(t *testing.T) {
	for _, size := range []int{2, 4, 8} {
		f := testimage.Field{Size: size, Value: 10}
		all := f.Hostile()
		for _, want := range []uint64{0, 9, 11, 1<<(8*size-1) - 1, 1 << (8*size - 1), 1<<(8*size-1)<<1 - 1} {
			if !slices.Contains(all, want) {
				t.Errorf("%d bytes: no %#x", size, want)
			}
		}
		if top := slices.Max(all); top != uint64(1)<<(8*size-1)<<1-1 {
			t.Errorf("%d bytes: as much as %#x", size, top)
		}
	}
}
