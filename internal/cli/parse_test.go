// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
)

func TestParseNumber(t *testing.T) {
	for in, want := range map[string]uint64{
		"0": 0, "10": 10, "010": 10, "0x1f": 0x1f, "0X1F": 0x1f, "0o17": 15, "2K": 2048, "0x10M": 16 << 20, "1G": 1 << 30,
		"16777215T": 16777215 << 40, "18446744073709551615": 1<<64 - 1, "0xffffffffffffffff": 1<<64 - 1,
	} {
		if got, err := parseNumber(in); err != nil || got != want {
			t.Errorf("%q: got %d, %v, want %d", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"": "not a number", "K": "not a number", "0x": "not a number", "-1": "not a number", "1k": "not a number", "1_0": "not a number",
		"18446744073709551616": "too large", "16777216T": "too large", "0x10000000000000000": "too large", "7fff": "is 0x7fff meant",
	} {
		_, err := parseNumber(in)
		if bad := (*usageError)(nil); !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want a usage error with %q", in, err, want)
		}
	}
}

// mapped is a target that has a map, a symbol, and no memory.
type mapped struct{ regs []remora.Region }

func (m *mapped) Memory() *remora.Memory { return nil }
func (m *mapped) Close() error           { return nil }

func (m *mapped) Regions(context.Context) iter.Seq2[remora.Region, error] {
	return func(yield func(remora.Region, error) bool) {
		for _, r := range m.regs {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (m *mapped) Symbol(_ context.Context, name string) ([]remora.Symbol, error) {
	if name == "main-loop" {
		return []remora.Symbol{{Name: name, Addr: 0x401000, Size: 64}}, nil
	}
	return nil, nil
}

func (m *mapped) SymbolAt(context.Context, remora.Addr) (remora.Symbol, bool) {
	return remora.Symbol{}, false
}

func testLocator(t *testing.T) *locator {
	region := func(start remora.Addr, name string) remora.Region {
		return remora.Region{Range: remora.Range{Start: start, Size: 0x2000}, Name: name}
	}
	return &locator{ctx: t.Context(), target: &mapped{[]remora.Region{
		region(0x10000, "/lib/libstdc++.so.6"), region(0x20000, "/lib/libstdc++.so.6"), region(0x30000, "/lib/ld-2"),
		region(0x40000, "[stack]"), region(remora.MaxAddr-0x1fff, "[top]"),
	}}}
}

func TestParseSpan(t *testing.T) {
	l := testLocator(t)
	for _, c := range []struct {
		in    string
		given bool
		want  string // "" for a mistake
	}{
		{"0x1000", false, "0x1000+0x10"},
		{"0x1000+16K", true, "0x1000+0x4000"},
		{"0x1000-0x1800", true, "0x1000+0x800"},
		{"0xfffffffffffff000-0", false, "0xfffffffffffff000+0x1000"},
		{"0xfffffffffffff000+0xffffffffffffffff", false, "0xfffffffffffff000+0xffffffffffffffff"},
		{"0x2000-0x1000", false, ""},
		{"0x1000+", false, ""},
		{"0x1000+1+1", false, ""},
		{"", false, ""},
		{"[stack]", false, "0x40000+0x2000"},
		{"[stack]", true, "0x40000+0x10"},
		{"[stack]+0x20", false, "0x40020+0x10"},
		{"[stack]+0x20+8", false, "0x40020+0x8"},
		{"[stack]-0x40008", false, "0x40000+0x8"},
		{"[stack]+8+8+8", false, ""},
		{"[top]+0x2000", false, ""},
		{"libstdc++.so.6", false, "0x10000+0x2000"},
		{"libstdc++.so.6+0x10", false, "0x10010+0x10"},
		{"/lib/libstdc++.so.6+0+4", false, "0x10000+0x4"},
		{"ld-2", false, "0x30000+0x2000"},
		{"ld-2+1", false, "0x30001+0x10"},
		{"main-loop", false, "0x401000+0x10"},
		{"main-loop+8", false, "0x401008+0x10"},
		{"nothing", false, ""},
		{"deadbeef", false, ""},
	} {
		got, err := l.parseSpan(c.in, size{n: 16, given: c.given})
		if (err == nil) != (c.want != "") || err == nil && got.String() != c.want {
			t.Errorf("%q: got %v, %v, want %q", c.in, got, err, c.want)
		}
	}
}

func TestParseAddr(t *testing.T) {
	l := testLocator(t)
	for in, want := range map[string]remora.Addr{"0x1000": 0x1000, "[stack]": 0x40000, "[stack]+8": 0x40008, "main-loop": 0x401000} {
		if got, err := l.parseAddr(in); err != nil || got != want {
			t.Errorf("%q: got %v, %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"0x1000+8", "0x1000-0x2000", "[stack]+8+8", "nothing"} {
		if got, err := l.parseAddr(in); err == nil {
			t.Errorf("%q: got %v, want a mistake", in, got)
		}
	}
}

func TestDurationFlag(t *testing.T) {
	for in, want := range map[string]time.Duration{"500ms": 500 * time.Millisecond, "2": 2 * time.Second, "0.5": time.Second / 2, "1m": time.Minute} {
		var d duration
		if err := d.Set(in); err != nil || time.Duration(d) != want {
			t.Errorf("%q: got %v, %v", in, time.Duration(d), err)
		}
	}
	for _, in := range []string{"", "0", "-1s", "soon", "NaN", "1e300"} {
		var d duration
		if err := d.Set(in); err == nil {
			t.Errorf("%q: got %v, want a mistake", in, time.Duration(d))
		}
	}
}

func TestPermFlag(t *testing.T) {
	reg := func(perm remora.Perm, shared bool) remora.Region { return remora.Region{Perm: perm, Shared: shared} }
	rw, rx := remora.PermRead|remora.PermWrite, remora.PermRead|remora.PermExec
	for _, c := range []struct {
		want string
		reg  remora.Region
		fits bool
	}{
		{"r", reg(rw, false), true}, {"w", reg(rx, false), false}, {"wr", reg(rw, false), true}, {"s", reg(rw, false), false},
		{"p", reg(rw, false), true}, {"r-x", reg(rx, true), true}, {"r-x", reg(rx|rw, true), false}, {"r-xp", reg(rx, true), false},
		{"r..", reg(rx, true), true}, {"---", reg(0, false), true}, {"...s", reg(0, true), true},
	} {
		f := permFlag{}
		if err := f.Set(c.want); err != nil || f.fits(c.reg) != c.fits {
			t.Errorf("%q for %+v: %v, want %v", c.want, c.reg, err, c.fits)
		}
	}
	for _, in := range []string{"", "q", "x-r", "r-", "r-xq", "r-xps", "rw-x"} {
		if err := (&permFlag{}).Set(in); err == nil {
			t.Errorf("%q is taken", in)
		}
	}
}
