// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// TestKdumpMeta: what an image says of itself, by who made it.
func TestKdumpMeta(t *testing.T) {
	note := func(size int) testimage.Note {
		return testimage.Note{Name: "CORE", Type: 1, Desc: make([]byte, size)}
	}
	for name, tc := range map[string]struct {
		change  func(k *testimage.Kdump)
		maker   string
		machine elf.Machine
		page    int
		codecs  string
	}{
		"makedumpfile": {func(k *testimage.Kdump) {}, "makedumpfile", elf.EM_X86_64, 4096, "zlib"},
		"QEMU":         {func(k *testimage.Kdump) { k.Utsname = []string{"", "", "", "", "x86_64"} }, "QEMU", elf.EM_X86_64, 4096, "zlib"},
		"QEMU on arm64": {func(k *testimage.Kdump) {
			k.Utsname = []string{"", "", "", "", "Unknown"}
			k.Mem.PageSize, k.Mem.Pages = 65536, nil
			k.Mem.Set(1, []byte{1})
			k.Notes = []testimage.Note{note(392)}
		}, "QEMU", elf.EM_AARCH64, 4096, "zlib"},
		"QEMU on riscv64": {func(k *testimage.Kdump) {
			k.Utsname = []string{"", "", "", "", "Unknown"}
			k.Notes = []testimage.Note{{Name: "LINUX", Type: 1}, note(376)}
		}, "QEMU", elf.EM_RISCV, 4096, "zlib"},
		"nothing to go by": {func(k *testimage.Kdump) { k.Utsname, k.VMCoreInfo = nil, nil }, "", elf.EM_NONE, 4096, "zlib"},
		"i386":             {func(k *testimage.Kdump) { k.Narrow, k.Utsname[4] = true, "i686" }, "makedumpfile", elf.EM_386, 4096, "zlib"},
		"s390x":            {func(k *testimage.Kdump) { k.BigEndian, k.Utsname[4] = true, "s390x" }, "makedumpfile", elf.EM_S390, 4096, "zlib"},
		"four algorithms":  {func(k *testimage.Kdump) { k.Status = 0x27 }, "makedumpfile", elf.EM_X86_64, 4096, "zlib lzo snappy zstd"},
	} {
		k := smallKdump()
		k.Utsname = slices.Clone(k.Utsname)
		k.Status = 1
		k.Sec, k.Usec = 1700000000, 5
		k.PhysBase = 0x497025024
		tc.change(k)
		meta := mustKdump(t, nil, k.Bytes()).Meta()
		if meta.Maker != tc.maker || meta.Machine != tc.machine || meta.PageSize != tc.page || strings.Join(meta.Codecs, " ") != tc.codecs ||
			meta.Level != 31 || !meta.Time.Equal(time.Unix(1700000000, 5000)) || !meta.HasBase || len(meta.Problems) != 0 {
			t.Errorf("%s: %+v", name, meta)
		}
	}
	k := smallKdump()
	k.PhysBase = 5
	if meta := mustKdump(t, nil, k.Bytes()).Meta(); meta.PhysBase != 5 {
		t.Errorf("%+v", meta)
	}
	k.VMCoreInfo = testimage.VMCoreInfo("NUMBER(phys_base)", "-161480704") // which QEMU takes for hexadecimal
	if meta := mustKdump(t, nil, k.Bytes()).Meta(); int64(meta.PhysBase) != -161480704 {
		t.Errorf("%+v", meta)
	}
}

// brokenReader fails between from and to while it is broken.
type brokenReader struct {
	r        io.ReaderAt
	from, to int64
	broken   atomic.Bool
}

func (b *brokenReader) ReadAt(p []byte, off int64) (int, error) {
	if b.broken.Load() && off < b.to && off+int64(len(p)) > b.from {
		return 0, errors.New("the disk is broken")
	}
	return b.r.ReadAt(p, off)
}

// TestKdumpIO: what cannot be read is ErrIO, with what reading said, and is not kept: it
// is read again.
func TestKdumpIO(t *testing.T) {
	k := smallKdump()
	l := k.Layout()
	for name, place := range map[string][2]int64{
		"bitmap":     {l.Bitmap + 4096, l.Bitmap + 4097},
		"descriptor": {l.DescOff(3), l.DescOff(3) + 1},
		"data":       {int64(l.Pages[3].Off), int64(l.Pages[3].Off) + 1},
	} {
		src := kdumpFile("disk", k.Bytes())
		broken := &brokenReader{r: src.r, from: place[0], to: place[1]}
		src.r = broken
		m, err := openKdumpSources(nil, src)
		if err != nil {
			t.Fatal(err)
		}
		broken.broken.Store(true)
		for _, first := range []uint64{3, 1, 0} {
			b := make([]byte, (6-first)*4096)
			if first == 3 {
				b = b[:8]
			}
			n, err := m.Memory().ReadAt(context.Background(), b, remora.Addr(first*4096))
			want := int(3-first) * 4096
			if name == "bitmap" {
				want = 0
			}
			if n != want || !errors.Is(err, remora.ErrIO) || !strings.Contains(err.Error(), "the disk is broken") || !strings.Contains(err.Error(), "disk: offset 0x") {
				t.Errorf("%s: %d bytes, %v", name, n, err)
			}
		}
		found := false
		if err := m.Check(context.Background(), func(e *remora.FormatError) { found = found || e.Got == "the disk is broken" }); err != nil || !found {
			t.Errorf("%s: a check found nothing, %v", name, err)
		}
		broken.broken.Store(false)
		want, _ := k.Mem.Page(3)
		b := make([]byte, 4096)
		if _, err := m.Memory().ReadAt(context.Background(), b, 3*4096); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%s: later: %v", name, err)
		}
		m.Close()
	}
}

// TestKdumpZeroExcluded: what was left out is zeros, if the user wants that; the rest of
// what is not there is not.
func TestKdumpZeroExcluded(t *testing.T) {
	k := smallKdump()
	k.Mem.Mark(3, 1, testimage.Lost)
	m := mustKdump(t, &Options{ZeroExcluded: true}, k.Bytes())
	for _, pfn := range k.Mem.PFNs() {
		want, class := k.Mem.Page(pfn)
		if class == testimage.Excluded {
			want, class = make([]byte, 4096), testimage.Saved
		}
		b := bytes.Repeat([]byte{9}, 4096)
		_, err := m.Memory().ReadAt(context.Background(), b, remora.Addr(pfn*4096))
		if class == testimage.Saved && (err != nil || !bytes.Equal(b, want)) || class != testimage.Saved && !errors.Is(err, kdumpCause(class)) {
			t.Errorf("page %d: %v", pfn, err)
		}
	}
	b := make([]byte, 5*4096)
	if n, err := m.Memory().ReadAt(context.Background(), b, 4*4096); n != len(b) || err != nil || string(b[4*4096:][:5]) != "eight" {
		t.Errorf("%d bytes, %v", n, err)
	}
}
