// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// splitKdump is a dump of 40 pages in three parts, which begin at 0, 10 and 30.
func splitKdump() (*testimage.Kdump, []*testimage.Kdump) {
	mem := &testimage.Physical{}
	for pfn := range uint64(40) {
		mem.Set(pfn, []byte(fmt.Sprint("page ", pfn)))
	}
	mem.Mark(12, 2, testimage.Excluded)
	mem.Mark(35, 2, testimage.Hole)
	k := testimage.NewKdump(mem)
	k.Compress = testimage.Zlib
	k.Sec = 1700000000
	return k, k.Parts(10, 30)
}

// TestSplitMissing opens each proper subset of the parts: what the others have is lost,
// and the explanation says which pages a part is missing for.
func TestSplitMissing(t *testing.T) {
	k, parts := splitKdump()
	starts := []uint64{0, 10, 30, 40}
	for subset := 1; subset < 8; subset++ {
		var files [][]byte
		for i := range parts {
			if subset&(1<<i) != 0 {
				files = append([][]byte{parts[i].Bytes()}, files...)
			}
		}
		m := mustKdump(t, nil, files...)
		mem := &testimage.Physical{Pages: make(map[uint64]testimage.Page)}
		for pfn, page := range k.Mem.Pages {
			for i := range parts {
				if pfn >= starts[i] && pfn < starts[i+1] && subset&(1<<i) == 0 && page.Class == testimage.Saved {
					page.Class = testimage.Lost
				}
			}
			mem.Pages[pfn] = page
		}
		sameKdump(t, m, mem, 0)
		if missing := subset != 7; missing != (len(m.Meta().Problems) > 0) {
			t.Errorf("subset %d: problems %v", subset, m.Meta().Problems)
		}
		if subset&2 == 0 {
			last := 30
			if subset&4 == 0 {
				last = 40
			}
			first := 10
			if subset&1 == 0 {
				first = 0
			}
			want := fmt.Sprintf("want the part of the set with pages 0x%x to 0x%x too, found ", first, last-1)
			if _, err := m.Memory().Uint64(context.Background(), 15*4096); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("subset %d: %v, want %q", subset, err, want)
			}
		}
	}
}

// TestSplitRefused: files that are not parts of one dump. The error names both.
func TestSplitRefused(t *testing.T) {
	_, parts := splitKdump()
	change := func(i int, f func(k *testimage.Kdump)) []byte {
		k := *parts[i]
		f(&k)
		return k.Bytes()
	}
	lie := func(field string, v uint64) []byte {
		return change(1, func(k *testimage.Kdump) { k.Lie = map[string]uint64{field: v} })
	}
	whole, _ := splitKdump()
	for name, tc := range map[string]struct {
		second    []byte
		want, got string
	}{
		"twice":       {parts[0].Bytes(), "pages that no other part has", "pages 0 to 10, of which part0 has 0 to 10"},
		"overlap":     {lie("start_pfn_64", 9), "pages that no other part has", "pages 9 to 30, of which part0 has 0 to 10"},
		"not split":   {whole.Bytes(), "a part of a split set, as there is more than one file", "a dump that is not split"},
		"version":     {change(1, func(k *testimage.Kdump) { k.Version = 5 }), "the version of part0, which is 6", "5"},
		"signature":   {change(1, func(k *testimage.Kdump) { k.DiskDump = true }), "the signature of part0, which is KDUMP   ", "DISKDUMP"},
		"byte order":  {change(1, func(k *testimage.Kdump) { k.BigEndian = true }), "the byte order of part0, which is LittleEndian", "BigEndian"},
		"word":        {change(1, func(k *testimage.Kdump) { k.Narrow = true }), "the size of a long of part0, which is 8", "4"},
		"names":       {change(1, func(k *testimage.Kdump) { k.Utsname = []string{"Linux", "other"} }), `the names of the system of part0, which is ["Linux" "test"`, `["Linux" "other"`},
		"time":        {lie("tv_sec", 5), "the time of part0, which is [1700000000 0]", "[5 0]"},
		"max_mapnr":   {lie("max_mapnr_64", 41), "max_mapnr of part0, which is 40", "41"},
		"base":        {lie("phys_base", 41), "the physical base of part0, which is 0", "41"},
		"other pages": {change(1, func(k *testimage.Kdump) { k.Mem = otherPages(k.Mem) }), "the bitmap of part0, which has 0xcf", "0xdf"},
	} {
		_, err := openKdumpFiles(nil, parts[0].Bytes(), tc.second)
		var bad *remora.FormatError
		if !errors.As(err, &bad) || bad.File != "part1" || !errors.Is(err, remora.ErrCorrupt) ||
			!strings.HasPrefix(bad.Want, tc.want) || !strings.HasPrefix(bad.Got, tc.got) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := openKdumpFiles(nil, parts[0].Bytes(), []byte("no dump")); !errors.Is(err, remora.ErrUnrecognized) {
		t.Error(err)
	}
}

// otherPages is mem with one page saved that was not.
func otherPages(mem *testimage.Physical) *testimage.Physical {
	other := &testimage.Physical{Pages: maps.Clone(mem.Pages)}
	other.Mark(12, 1, testimage.Saved)
	return other
}

// TestSplitEmpty: on small machines some parts have no pages.
func TestSplitEmpty(t *testing.T) {
	k, _ := splitKdump()
	var files [][]byte
	for _, part := range k.Parts(0, 40, 40) {
		files = append(files, part.Bytes())
	}
	m := mustKdump(t, nil, files...)
	sameKdump(t, m, k.Mem, 0)
	if meta := m.Meta(); len(meta.Parts) != 4 || len(meta.Problems) != 0 {
		t.Errorf("%+v", meta)
	}
	sameKdump(t, mustKdump(t, nil, files[1]), k.Mem, 0)
}
