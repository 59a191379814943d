// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// TestRealVariants writes the memory of a moment in the formats that the laboratory has
// no maker of, by Remora's own writer and by that of the tests, and holds each image
// against the guest's memory.
func TestRealVariants(t *testing.T) {
	m := openMoment(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	full := make(pages, m.end()/page)
	filtered := m.classes(t, vmlab.MakedumpfileZlib31)
	cut := slices.Clone(filtered)
	for i := len(cut) * 3 / 4; i < len(cut); i++ {
		if cut[i] == nil {
			cut[i] = remora.ErrTruncated
		}
	}
	holes := make(pages, len(full))
	for i := 0xa0; i < 0x100; i++ { // a PC's, below 1 MiB
		holes[i] = remora.ErrHole
	}
	hole := remora.Range{Start: 0xa0 * page, Size: 0x60 * page}
	src := m.image(t, vmlab.MakedumpfileZlib31)
	variants := []struct {
		name    string
		write   func(f *os.File) error
		want    pages
		options target.Options
	}{
		{"zlib", written(t, src, &vmcore.WriteOptions{To: vmcore.Kdump, Codec: vmcore.Zlib}), filtered, target.Options{}},
		{"zstd", written(t, src, &vmcore.WriteOptions{To: vmcore.Kdump, Codec: vmcore.Zstd}), filtered, target.Options{}},
		{"snappy", written(t, src, &vmcore.WriteOptions{To: vmcore.Kdump, Codec: vmcore.Snappy}), filtered, target.Options{}},
		{"not packed", written(t, src, &vmcore.WriteOptions{To: vmcore.Kdump, Codec: vmcore.None}), filtered, target.Options{}},
		{"elf", written(t, src, &vmcore.WriteOptions{To: vmcore.ELF}), filtered, target.Options{}},
		{"kdump of a small machine", m.kdump(t, cut, func(k *testimage.Kdump) { k.Narrow, k.Compress = true, testimage.Snappy }), cut, target.Options{}},
		{"kdump of a big-endian machine", m.kdump(t, cut, func(k *testimage.Kdump) { k.BigEndian, k.Compress = true, testimage.Zstd }), cut, target.Options{}},
		{"kdump of i386 in every codec", m.kdump(t, filtered, func(k *testimage.Kdump) { k.Narrow, k.Packed, k.Compress = true, true, testimage.Mixed }), filtered, target.Options{}},
		{"an old diskdump", m.kdump(t, filtered, func(k *testimage.Kdump) {
			k.DiskDump, k.Version, k.SizeZero, k.Compress = true, 1, true, testimage.None
		}), filtered, target.Options{}},
		{"elf of a small machine", m.vmcore(t, cut, func(v *testimage.VMCore) { v.Narrow = true }), cut, target.Options{}},
		{"elf of a big-endian machine", m.vmcore(t, cut, func(v *testimage.VMCore) { v.BigEndian, v.Extended, v.Shuffle = true, true, 1 }), cut, target.Options{}},
		{"lime, and avml", func(f *os.File) error { return m.memory(t, holes).LiMETo(f, testimage.LiMEOptions{}) }, holes, target.Options{}},
		{"raw", func(f *os.File) error {
			return m.memory(t, full).RawTo(f, testimage.RawOptions{HoleStart: uint64(hole.Start), HoleSize: hole.Size})
		}, holes, target.Options{Format: vmcore.Raw, Hole: hole}},
		{"raw, as QEMU has it", func(f *os.File) error {
			_, err := io.Copy(f, io.NewSectionReader(m.ram, 0, int64(m.end())))
			return err
		}, full, target.Options{Format: vmcore.Raw}},
	}
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "image")
			f, err := os.Create(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := v.write(f); err != nil {
				t.Fatal(err)
			}
			img := openImage(t, name, &v.options)
			got := m.compare(t, img)
			for i := range got {
				if got[i] != v.want[i] {
					t.Fatalf("page 0x%x: %v, want %v", i, got[i], v.want[i])
				}
			}
			if n := got.count(nil); n == 0 {
				t.Error("there is nothing in it")
			}
		})
	}
}

// written writes an image by Remora's own writer.
func written(t *testing.T, src *vmcore.Image, o *vmcore.WriteOptions) func(*os.File) error {
	return func(f *os.File) error {
		o.Fresh = true
		_, err := vmcore.Write(t.Context(), f, src.Content(), o)
		return err
	}
}

// memory gives the guest's memory to be written, each page of its class.
func (m *moment) memory(t *testing.T, p pages) *testimage.Physical {
	if m.bytes == nil {
		m.bytes = make([]byte, m.end())
		m.physical(t, m.bytes, 0)
	}
	phys := &testimage.Physical{Pages: map[uint64]testimage.Page{}}
	for i, why := range p {
		switch why {
		case nil:
			phys.Pages[uint64(i)] = testimage.Page{Data: m.bytes[i*page:][:page]}
		case remora.ErrNotSaved:
			phys.Pages[uint64(i)] = testimage.Page{Class: testimage.Excluded}
		case remora.ErrTruncated:
			phys.Pages[uint64(i)] = testimage.Page{Class: testimage.Lost}
		}
	}
	return phys
}

func (m *moment) kdump(t *testing.T, p pages, change func(*testimage.Kdump)) func(*os.File) error {
	return func(f *os.File) error {
		k := testimage.NewKdump(m.memory(t, p))
		k.Compress, k.DumpLevel = testimage.Zlib, 31
		change(k)
		_, err := k.WriteTo(f)
		return err
	}
}

func (m *moment) vmcore(t *testing.T, p pages, change func(*testimage.VMCore)) func(*os.File) error {
	return func(f *os.File) error {
		v := &testimage.VMCore{Mem: m.memory(t, p)}
		change(v)
		_, err := v.WriteTo(f)
		return err
	}
}
