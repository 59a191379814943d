// SPDX-License-Identifier: Apache-2.0

package remora_test

import (
	"testing"

	"github.com/remora-go/remora"
)

func TestRange(t *testing.T) {
	const top = remora.MaxAddr
	for _, row := range []struct {
		name string
		r    remora.Range
		last remora.Addr // of a Range that is not empty
		in   []remora.Addr
		out  []remora.Addr
		text string
	}{
		{"empty", remora.Range{Start: 5}, 0, nil, []remora.Addr{0, 4, 5, 6, top}, "0x5+0x0"},
		{"one byte", remora.Range{Start: 5, Size: 1}, 5, []remora.Addr{5}, []remora.Addr{0, 4, 6, top}, "0x5+0x1"},
		{"a page", remora.Range{Start: 0x1000, Size: 0x1000}, 0x1fff, []remora.Addr{0x1000, 0x1fff}, []remora.Addr{0xfff, 0x2000}, "0x1000+0x1000"},
		{"the last byte", remora.Range{Start: top, Size: 1}, top, []remora.Addr{top}, []remora.Addr{0, top - 1}, "0xffffffffffffffff+0x1"},
		{"up to the last byte", remora.Range{Start: top - 9, Size: 10}, top, []remora.Addr{top - 9, top}, []remora.Addr{0, top - 10}, "0xfffffffffffffff6+0xa"},
		{"all but the last byte", remora.Range{Size: 1<<64 - 1}, top - 1, []remora.Addr{0, 1 << 63, top - 1}, []remora.Addr{top}, "0x0+0xffffffffffffffff"},
		{"over the middle", remora.Range{Start: 1<<63 - 1, Size: 2}, 1 << 63, []remora.Addr{1<<63 - 1, 1 << 63}, []remora.Addr{1<<63 - 2, 1<<63 + 1}, "0x7fffffffffffffff+0x2"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := row.r.Empty(); got != (row.in == nil) {
				t.Errorf("Empty is %t", got)
			}
			if got := row.r.Last(); !row.r.Empty() && got != row.last {
				t.Errorf("Last is %v, want %v", got, row.last)
			}
			for _, a := range row.in {
				if !row.r.Contains(a) {
					t.Errorf("does not contain %v", a)
				}
			}
			for _, a := range row.out {
				if row.r.Contains(a) {
					t.Errorf("contains %v", a)
				}
			}
			if got := row.r.String(); got != row.text {
				t.Errorf("String is %s, want %s", got, row.text)
			}
		})
	}
	if got := (remora.Range{Start: top - 1, Size: 10}).Last(); got != top {
		t.Errorf("the Last of a Range that is too long is %v, want %v", got, top)
	}
}

func TestBetween(t *testing.T) {
	const top = remora.MaxAddr
	for _, row := range []struct {
		first, end remora.Addr
		want       remora.Range
	}{
		{0x1000, 0x3000, remora.Range{Start: 0x1000, Size: 0x2000}},
		{0, 1, remora.Range{Size: 1}},
		{0, top, remora.Range{Size: 1<<64 - 1}},
		{7, 7, remora.Range{Start: 7}},
		{8, 7, remora.Range{Start: 8}},
		{0, 0, remora.Range{}},
		{1, 0, remora.Range{Start: 1, Size: 1<<64 - 1}},
		{top, 0, remora.Range{Start: top, Size: 1}},
	} {
		if got := remora.Between(row.first, row.end); got != row.want {
			t.Errorf("Between(%v, %v) is %v, want %v", row.first, row.end, got, row.want)
		}
	}
}

func TestIntersect(t *testing.T) {
	const top = remora.MaxAddr
	r := func(start remora.Addr, size uint64) remora.Range { return remora.Range{Start: start, Size: size} }
	for _, row := range []struct {
		name       string
		a, b, want remora.Range // Start of an empty want does not matter
	}{
		{"apart", r(0, 10), r(20, 10), remora.Range{}},
		{"touching", r(0, 10), r(10, 10), remora.Range{}},
		{"overlapping", r(0, 10), r(5, 10), r(5, 5)},
		{"inside", r(0, 10), r(2, 3), r(2, 3)},
		{"the same", r(4, 5), r(4, 5), r(4, 5)},
		{"with an empty one inside", r(0, 10), r(5, 0), remora.Range{}},
		{"with an empty one at 0", r(0, 10), r(0, 0), remora.Range{}},
		{"at the top", r(top-9, 10), r(top, 1), r(top, 1)},
		{"all but the last byte", r(0, 1<<64-1), r(top-1, 2), r(top-1, 1)},
	} {
		for _, got := range []remora.Range{row.a.Intersect(row.b), row.b.Intersect(row.a)} {
			if got.Size != row.want.Size || got.Size > 0 && got != row.want {
				t.Errorf("%s: %v and %v have %v in common, want %v", row.name, row.a, row.b, got, row.want)
			}
		}
	}
}

func TestOpString(t *testing.T) {
	for op, want := range map[remora.Op]string{
		remora.Read:                    "read",
		remora.Write:                   "write",
		remora.StopAtFault:             "read|stop-at-fault",
		remora.Write | remora.Force:    "write|force",
		remora.AllOps:                  "write|stop-at-fault|force|resident",
		remora.AllOps &^ remora.Write:  "read|stop-at-fault|force|resident",
		remora.AllOps + 1:              "read|unknown",
		remora.Write | 1<<31 | 1<<30:   "write|unknown",
		remora.Resident | remora.Write: "write|resident",
	} {
		if got := op.String(); got != want {
			t.Errorf("op 0x%x is %q, want %q", uint32(op), got, want)
		}
	}
}

func TestPermString(t *testing.T) {
	for perm, want := range map[remora.Perm]string{
		0:                                   "---",
		remora.PermRead:                     "r--",
		remora.PermRead | remora.PermWrite:  "rw-",
		remora.PermRead | remora.PermExec:   "r-x",
		remora.PermUser | remora.PermExec:   "--x",
		remora.PermWrite | remora.PermUser:  "-w-",
		remora.PermRead | 1<<15 | 1<<1 | 04: "rwx",
	} {
		if got := perm.String(); got != want {
			t.Errorf("Perm 0x%x is %q, want %q", uint16(perm), got, want)
		}
	}
}
