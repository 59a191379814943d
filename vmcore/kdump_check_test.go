// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// checked gives what a check reports.
func checked(t *testing.T, files ...[]byte) []*remora.FormatError {
	t.Helper()
	m := mustKdump(t, nil, files...)
	var all []*remora.FormatError
	if err := m.Check(context.Background(), func(e *remora.FormatError) { all = append(all, e) }); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestCheckSound: sound images of all shapes have no damage.
func TestCheckSound(t *testing.T) {
	for seed := range uint64(28) {
		if RaceEnabled && seed%3 != 0 {
			continue
		}
		k, files := randomKdump(seed)
		lost := false
		for _, page := range k.Mem.Pages {
			lost = lost || page.Class == testimage.Lost
		}
		for _, e := range checked(t, files...) {
			if !lost || e.Err != remora.ErrTruncated || !strings.HasPrefix(e.Got, "none (pages 0x") {
				t.Errorf("seed %d: %v", seed, e)
			}
		}
	}
}

// damage is one kind of damage, and what a check must report: exactly this.
type damage struct {
	name   string
	change func(k *testimage.Kdump)                       // before it is written
	patch  func(b []byte, l *testimage.KdumpLayout)       // after
	flat   func(b []byte) []byte                          // instead of the file itself
	at     func(b []byte, l *testimage.KdumpLayout) int64 // the offset
	cause  error
	want   string
	got    string
}

// page3 changes the descriptor of page 3.
func page3(f func(d *testimage.Desc)) func(k *testimage.Kdump) {
	return func(k *testimage.Kdump) {
		k.Desc = func(pfn uint64, d *testimage.Desc) {
			if pfn == 3 {
				f(d)
			}
		}
	}
}

// repack packs page 3 in another way.
func repack(m testimage.Method, size int) func(k *testimage.Kdump) {
	return func(k *testimage.Kdump) {
		k.Compress = m
		data := k.Mem.Pages[3].Data
		if size > len(data) {
			data = append(bytes.Clone(data), make([]byte, size-len(data))...)
		}
		packed := m.Pack(data[:size])
		k.EraseInfo = packed // a place in the file
		l := k.Layout()
		page3(func(d *testimage.Desc) {
			d.Off, d.Size = uint64(l.Erase), uint32(len(packed))
		})(k)
		k.Lie = map[string]uint64{"size_eraseinfo": 0}
	}
}

// lies gives fields of the headers other values.
func lies(fields map[string]uint64) func(k *testimage.Kdump) {
	return func(k *testimage.Kdump) { k.Lie = fields }
}

func atField(name string) func([]byte, *testimage.KdumpLayout) int64 {
	return func(_ []byte, l *testimage.KdumpLayout) int64 {
		for _, f := range l.Fields {
			if f.Name == name {
				return f.Off
			}
		}
		return -1
	}
}

func atDesc(field int64) func([]byte, *testimage.KdumpLayout) int64 {
	return func(_ []byte, l *testimage.KdumpLayout) int64 { return l.DescOff(3) + field }
}

func atData(_ []byte, l *testimage.KdumpLayout) int64 { return int64(l.Pages[3].Off) }

func damages() []damage {
	bitmap := func(off int64) func([]byte, *testimage.KdumpLayout) int64 {
		return func(_ []byte, l *testimage.KdumpLayout) int64 { return l.Bitmap + off }
	}
	c, cut := remora.ErrCorrupt, remora.ErrTruncated
	return []damage{
		{"status", lies(map[string]uint64{"status": 0x41}), nil, nil, atField("status"), c, "a status of known bits", "0x41: unknown bit 0x40"},
		{"incomplete", lies(map[string]uint64{"status": 0x9}), nil, nil, atField("status"), cut, "a complete dump", "status 0x9: incomplete"},
		{"level", lies(map[string]uint64{"dump_level": 77}), nil, nil, atField("dump_level"), c, "a dump level from 0 to 31", "77"},
		{"saved, but no memory", nil, func(b []byte, l *testimage.KdumpLayout) { b[l.Bitmap] &^= 1 << 3 }, nil, bitmap(4096), c,
			"pages that the first bitmap, at 0x2000, has too", "pages 0x3 to 0x3, which it does not have"},
		{"bits behind the last page", nil, func(b []byte, l *testimage.KdumpLayout) { b[l.Bitmap+1] |= 1 << 6 }, nil, bitmap(1), c,
			"a bitmap of 12 pages, and no bits behind them", "0x40"},
		{"bits far behind", nil, func(b []byte, l *testimage.KdumpLayout) { b[l.Bitmap+4096+100] = 1 }, nil, bitmap(4196), c,
			"a bitmap of 12 pages, and no bits behind them", "0x01"},
		{"no offset", page3(func(d *testimage.Desc) { d.Off = 0 }), nil, nil, atDesc(0), cut, "a page descriptor with an offset", "none (pages 0x3 to 0x3)"},
		{"in the header", page3(func(d *testimage.Desc) { d.Off = 100 }), nil, nil, atDesc(0), c, "a page descriptor with data behind the descriptors", "offset 0x64"},
		{"in the descriptors", nil, func(b []byte, l *testimage.KdumpLayout) {
			(&testimage.Core{}).Order().PutUint64(b[l.DescOff(3):], uint64(l.Data-1))
		}, nil, atDesc(0), c, "a page descriptor with data behind the last descriptor, which ends at 0x40c0", "offset 0x40bf"},
		{"past the end", page3(func(d *testimage.Desc) { d.Off = 1 << 30 }), nil, nil, func([]byte, *testimage.KdumpLayout) int64 { return 1 << 30 }, cut,
			"bytes of data, as the page descriptor at 0x4048 says", "the end of the file at 0x"},
		{"across the end", nil, func(b []byte, l *testimage.KdumpLayout) {
			(&testimage.Core{}).Order().PutUint64(b[l.DescOff(3):], uint64(len(b)-1))
		}, nil, func(b []byte, _ *testimage.KdumpLayout) int64 { return int64(len(b)) - 1 }, cut, "bytes of data, as the page descriptor at 0x4048 says", "the end of the file at 0x"},
		{"unknown flag", page3(func(d *testimage.Desc) { d.Flags = 0x80 }), nil, nil, atDesc(12), c, "flags of zlib (0x1), lzo (0x2), snappy (0x4), zstd (0x20) or none", "0x80: unknown bit 0x80"},
		{"two algorithms", page3(func(d *testimage.Desc) { d.Flags = 3 }), nil, nil, atDesc(12), c, "the flag of one algorithm", "0x3"},
		{"larger than a page", page3(func(d *testimage.Desc) { d.Size = 5000 }), nil, nil, atDesc(8), c, "data of at most 4096 bytes", "5000"},
		{"not compressed, not a page", page3(func(d *testimage.Desc) { d.Flags = 0 }), nil, nil, atDesc(8), c, "4096 bytes of a page that is not compressed", ""},
		{"cut data", page3(func(d *testimage.Desc) { d.Size -= 3 }), nil, nil, atData, c, "bytes of [zlib] that give 4096", "the data end too early"},
		{"checksum", nil, func(b []byte, l *testimage.KdumpLayout) { b[l.Pages[3].Off+uint64(l.Pages[3].Size)-1] ^= 1 }, nil, atData, c, "bytes of [zlib] that give 4096", "a wrong checksum"},
		{"deflate", nil, func(b []byte, l *testimage.KdumpLayout) { b[l.Pages[3].Off+2] |= 7 }, nil, atData, c, "bytes of [zlib] that give 4096", "a damaged block"},
		{"zlib header", nil, func(b []byte, l *testimage.KdumpLayout) { b[l.Pages[3].Off] = 0x79 }, nil, atData, c, "bytes of [zlib] that give 4096", "no zlib stream"},
		{"short zlib", repack(testimage.Zlib, 4095), nil, nil, atData, c, "bytes of [zlib] that give 4096", "less than a page"},
		{"long zlib", repack(testimage.Zlib, 4097), nil, nil, atData, c, "bytes of [zlib] that give 4096", "more than a page"},
		{"short lzo", repack(testimage.LZO1X, 4095), nil, nil, atData, c, "bytes of [lzo] that give 4096", "less than a page"},
		{"long lzo", repack(testimage.LZO1X, 4097), nil, nil, atData, c, "bytes of [lzo] that give 4096", "more than a page"},
		{"short snappy", repack(testimage.Snappy, 4095), nil, nil, atData, c, "bytes of [snappy] that give 4096", "less than a page"},
		{"short zstd", repack(testimage.Zstd, 4095), nil, nil, atData, c, "bytes of [zstd] that give 4096", "less than a page"},
		{"long zstd", repack(testimage.Zstd, 4097), nil, nil, atData, c, "bytes of [zstd] that give 4096", "more than a page"},
		{"overlap", page3(func(d *testimage.Desc) { d.Size++ }), nil, nil,
			func(_ []byte, l *testimage.KdumpLayout) int64 { return l.DescOff(4) }, c, "a page descriptor with data of its own, or all of another page's", ""},
		{"VMCOREINFO past the end", lies(map[string]uint64{"offset_vmcoreinfo": 1 << 40}), nil, nil, atField("offset_vmcoreinfo"), cut, "VMCOREINFO within the end of the file at 0x", "0x24 bytes at 0x10000000000"},
		{"VMCOREINFO in the header", lies(map[string]uint64{"offset_vmcoreinfo": 8}), nil, nil, atField("offset_vmcoreinfo"), c, "VMCOREINFO behind the header", "offset 0x8"},
		{"VMCOREINFO too long", lies(map[string]uint64{"size_vmcoreinfo": 1 << 30}), nil, nil, atField("offset_vmcoreinfo"), c, "VMCOREINFO of at most 1048576 bytes", "1073741824 bytes"},
		{"VMCOREINFO elsewhere", lies(map[string]uint64{"offset_vmcoreinfo": 0x2000}), nil, nil, func([]byte, *testimage.KdumpLayout) int64 { return 0x2000 }, c, "a line KEY=VALUE of VMCOREINFO", `"\x`},
		{"notes past the end", lies(map[string]uint64{"offset_note": 1 << 40}), nil, nil, atField("offset_note"), cut, "notes within the end of the file at 0x", "0x3c bytes at 0x10000000000"},
		{"a damaged note", nil, func(b []byte, l *testimage.KdumpLayout) { b[l.Notes+4] = 0xff }, nil, func(_ []byte, l *testimage.KdumpLayout) int64 { return l.Notes }, c,
			"a note with a name of 11 and a descriptor of 255 bytes", "the end of the notes at 0x"},
		{"erase info past the end", lies(map[string]uint64{"offset_eraseinfo": 1 << 40, "size_eraseinfo": 5}), nil, nil, atField("offset_eraseinfo"), cut, "erase info within the end of the file at 0x", "0x5 bytes at 0x10000000000"},
		{"no end record", nil, nil, func(b []byte) []byte { return testimage.Flatten(b, testimage.FlatOptions{NoEnd: true}) },
			func(b []byte, _ *testimage.KdumpLayout) int64 { return int64(len(b)) }, cut, "a record or the end record of a flattened stream", "the end of the file at 0x"},
	}
}

// TestCheckDamage plants damage, one kind at a time. Just that is found.
func TestCheckDamage(t *testing.T) {
	for _, tc := range damages() {
		t.Run(tc.name, func(t *testing.T) {
			k := smallKdump()
			if tc.change != nil {
				tc.change(k)
			}
			l, b := k.Layout(), k.Bytes()
			if tc.patch != nil {
				tc.patch(b, l)
			}
			if tc.flat != nil {
				b = tc.flat(b)
			}
			all := checked(t, b)
			if len(all) != 1 {
				t.Fatalf("%d reports: %v", len(all), all)
			}
			e := all[0]
			if e.File != "part0" || e.Offset != tc.at(b, l) || !errors.Is(e, tc.cause) || !strings.Contains(e.Want, tc.want) || !strings.Contains(e.Got, tc.got) {
				t.Errorf("%v, %v; want offset 0x%x, %v", e, e.Err, tc.at(b, l), tc.cause)
			}
		})
	}
}

// TestCheckMany: damage in many places is found in all of them, in the parts of a set too.
func TestCheckMany(t *testing.T) {
	k, parts := splitKdump()
	var files [][]byte
	for _, part := range parts {
		part.Desc = func(pfn uint64, d *testimage.Desc) {
			if pfn%5 == 2 {
				d.Flags = 0x80
			}
		}
		files = append(files, part.Bytes())
	}
	want := 0
	for pfn := range uint64(40) {
		if _, class := k.Mem.Page(pfn); class == testimage.Saved && pfn%5 == 2 {
			want++
		}
	}
	if all := checked(t, files...); len(all) != want {
		t.Errorf("%d reports, want %d: %v", len(all), want, all)
	}
	if all := checked(t, files[0], files[2]); len(all) == 0 || !strings.Contains(all[0].Want, "the part of the set with pages 0xa to 0x1d too") {
		t.Errorf("%v", all)
	}
}

// TestCheckBitmaps: what of the bitmaps of a set opening does not compare, a check does.
func TestCheckBitmaps(t *testing.T) {
	k, _ := splitKdump()
	k.MaxMapNr = 1 << 22
	parts := k.Parts(10)
	parts[1].EndPFN = k.MaxMapNr
	files := [][]byte{parts[0].Bytes(), parts[1].Bytes()}
	l := parts[1].Layout()
	files[1][l.Bitmap+8192] = 1
	all := checked(t, files...)
	want := fmt.Sprintf("part1: offset 0x%x: want the bitmap of part0, which has 0x00 at 0x%[1]x, found 0x01", l.Bitmap+8192)
	if len(all) != 1 || all[0].Error() != want {
		t.Errorf("%v; want %s", all, want)
	}
}

// TestCheckEnds: a check ends when its context does.
func TestCheckEnds(t *testing.T) {
	m := mustKdump(t, nil, largeKdump().Bytes())
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.Check(ctx, func(e *remora.FormatError) { t.Error(e) }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
