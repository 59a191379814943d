// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

func TestRaw(t *testing.T) {
	mem := &testimage.Physical{Runs: []testimage.Run{{First: 16, End: 24}, {First: 32, End: 48}}}
	for pfn := uint64(16); pfn < 48; pfn++ {
		if pfn < 24 || pfn >= 32 {
			mem.Set(pfn, []byte{byte(pfn), 1, 2, 3})
		}
	}
	r := func(first, end uint64) remora.Range {
		return remora.Range{Start: remora.Addr(first * page), Size: (end - first) * page}
	}
	b := mem.Raw(testimage.RawOptions{Base: 16 * page, HoleStart: 24 * page, HoleSize: 8 * page})
	m := openImage(t, b, &vmcore.Options{Base: 16 * page, Hole: r(24, 32)})
	compare(t, m, mem)
	if bad := damages(t, m); bad != nil {
		t.Error(bad)
	}
	parts := []testimage.Range{{Start: 40 * page, End: 48 * page}, {Start: 16 * page, End: 24 * page}, {Start: 32 * page, End: 40 * page}}
	b = mem.Raw(testimage.RawOptions{Ranges: parts})
	compare(t, openImage(t, b, &vmcore.Options{Segments: []remora.Range{r(40, 48), {}, r(16, 24), r(32, 40)}}), mem)

	// The file ends inside the second run.
	m = openImage(t, b[:9*page+5], &vmcore.Options{Segments: []remora.Range{r(40, 48), r(16, 24), r(32, 40)}})
	for a, want := range map[remora.Addr]error{47 * page: nil, 17*page + 4: nil, 17*page + 5: remora.ErrTruncated, 39 * page: remora.ErrTruncated, 48 * page: remora.ErrHole} {
		if _, err := at(m, a); !errors.Is(err, want) {
			t.Errorf("%v: %v, want %v", a, err, want)
		}
	}
	if _, err := at(m, 33*page); err == nil || !strings.Contains(err.Error(), "would be at 0x11000 of ") {
		t.Error(err)
	}
	if len(m.Meta().Problems) != 1 {
		t.Error(m.Meta().Problems)
	}

	// A hole behind the file changes nothing.
	m = openImage(t, b, &vmcore.Options{Hole: remora.Range{Start: 3 << 30, Size: 1 << 30}})
	if got, err := at(m, 1); got != 1 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	// A hole at the base moves all of it.
	m = openImage(t, b, &vmcore.Options{Base: page, Hole: r(1, 5)})
	if got, err := at(m, 5*page+2); got != 2 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
	if _, err := at(m, page); !errors.Is(err, remora.ErrHole) {
		t.Error(err)
	}
}

// TestRawTop has memory up to the last address.
func TestRawTop(t *testing.T) {
	m := newImage(t, []byte{1, 2, 3}, &vmcore.Options{Base: remora.MaxAddr - 2})
	if got, err := at(m, remora.MaxAddr); got != 3 || err != nil {
		t.Errorf("%d, %v", got, err)
	}
}
