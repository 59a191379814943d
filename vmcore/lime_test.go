// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// asLiME is what LiME keeps of memory: zeros where pages were not saved.
func asLiME(mem *testimage.Physical) *testimage.Physical {
	out := &testimage.Physical{PageSize: mem.PageSize, Pages: map[uint64]testimage.Page{}}
	for pfn, p := range mem.Pages {
		if p.Class != testimage.Saved {
			p = testimage.Page{}
		}
		out.Pages[pfn] = p
	}
	return out
}

func TestLiME(t *testing.T) {
	for seed := range uint64(6) {
		mem := memory(seed)
		b := mem.LiME(testimage.LiMEOptions{})
		for _, m := range []*vmcore.Image{openImage(t, b, nil), openImage(t, b, &vmcore.Options{NoMap: true}), newImage(t, b, nil)} {
			compare(t, m, asLiME(mem))
			if bad := damages(t, m); bad != nil {
				t.Errorf("seed %d: a sound image has %v", seed, bad)
			}
		}
	}
}

// TestLiMEOdd has ranges that are neither pages nor in order, and one byte long; where
// they overlap, the larger one is read and written.
func TestLiMEOdd(t *testing.T) {
	mem := &testimage.Physical{}
	mem.Write(0, bytes.Repeat([]byte("0123456789abcdef"), 512))
	b := mem.LiME(testimage.LiMEOptions{Ranges: []testimage.Range{{Start: 0x1003, End: 0x1005}, {Start: 0x10, End: 0x21}, {Start: 0x20, End: 0x22}, {Start: 0x18, End: 0x19}}})
	b[len(b)-1], b[len(b)-33-2] = 'X', 'Y' // the byte at 0x18, and the first at 0x20
	path := saveFile(t, b)
	m, err := vmcore.Open(path, &vmcore.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx := context.Background()
	for a, want := range map[remora.Addr]string{0xf: "", 0x10: "0123456789abcdef01", 0x1002: "", 0x1003: "34", 0x1005: ""} {
		buf := make([]byte, 30)
		n, err := m.Memory().ReadAt(ctx, buf, a)
		if string(buf[:n]) != want || !errors.Is(err, remora.ErrHole) {
			t.Errorf("%v: %q, %v", a, buf[:n], err)
		}
	}
	if _, err := m.Memory().WriteAt(ctx, []byte("ZZ"), 0x20); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3)
	if n, _ := m.Memory().ReadAt(ctx, buf, 0x20); string(buf[:n]) != "ZZ" {
		t.Errorf("%q", buf[:n])
	}
	if n := len(m.Meta().Problems); n != 3 {
		t.Errorf("%d problems: %v", n, m.Meta().Problems)
	}
}

// TestLiMELost has a range whose header is not where it should be.
func TestLiMELost(t *testing.T) {
	mem := scattered()
	b := mem.LiME(testimage.LiMEOptions{})
	fields := testimage.LiMEFields(b)
	bad := fields[5] // magic of the second range
	m := newImage(t, bad.Set(b, 0), nil)
	first := remora.Addr(fields[3].Value)
	if _, err := at(m, first); err != nil {
		t.Error(err)
	}
	for a, want := range map[remora.Addr]error{first + 1: remora.ErrTruncated, 100 * page: remora.ErrTruncated, 1<<56 - 1: remora.ErrTruncated, 1 << 56: remora.ErrHole} {
		_, err := at(m, a)
		if !errors.Is(err, want) || want == remora.ErrTruncated && !strings.Contains(err.Error(), `want the header of a range ("EMiL"), found "\x00\x00\x00\x00"`) {
			t.Errorf("%v: %v", a, err)
		}
	}
	lost := 0
	for r := range m.Runs(context.Background()) {
		if errors.Is(r.Err, remora.ErrTruncated) {
			lost++
		}
	}
	if lost != 1 {
		t.Errorf("%d lost runs", lost)
	}
}
