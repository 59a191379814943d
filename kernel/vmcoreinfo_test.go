// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
)

func TestVMCoreInfoNumbersHaveTheBaseOfTheirKey(t *testing.T) {
	v := ParseVMCoreInfo([]byte("OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff81000000\nSYMBOL(plain)=10\n" +
		"OFFSET(page.flags)=10\nSIZE(page)=64\nLENGTH(free_area)=11\nNUMBER(phys_base)=-161480704\nNUMBER(decimal)=10\n" +
		"NUMBER(kimage_voffset)=0xffff800038000000\nKERNELOFFSET=1a000000\nCRASHTIME=1700000000\nNUMBER(large)=18446744073709551615\n" +
		"SOMETHING=new\r\n"))
	for key, want := range map[string]uint64{
		"PAGESIZE": 4096, "SYMBOL(_stext)": 0xffffffff81000000, "SYMBOL(plain)": 16, "OFFSET(page.flags)": 10, "SIZE(page)": 64,
		"LENGTH(free_area)": 11, "NUMBER(phys_base)": 1<<64 - 161480704, "NUMBER(decimal)": 10, "NUMBER(kimage_voffset)": 0xffff800038000000,
		"KERNELOFFSET": 0x1a000000, "CRASHTIME": 1700000000, "NUMBER(large)": 1<<64 - 1,
	} {
		if got, ok := v.Value(key); !ok || got != want {
			t.Errorf("%s: %#x, %v, want %#x", key, got, ok, want)
		}
	}
	if v.Problems != nil || v.Release() != "6.1.0" {
		t.Errorf("%v, %q", v.Problems, v.Release())
	}
	if s, ok := v.Text("SOMETHING"); !ok || s != "new" {
		t.Errorf("an unknown key: %q, %v", s, ok)
	}
	if _, ok := v.Value("SOMETHING"); ok {
		t.Error("an unknown key has a number")
	}
	if a, ok := v.Symbol("_stext"); !ok || a != 0xffffffff81000000 {
		t.Errorf("_stext: %v, %v", a, ok)
	}
	if n, ok := v.Number("none"); ok || n != 0 {
		t.Errorf("a number that is not there: %d", n)
	}
}

func TestVMCoreInfoKeepsDuplicatesAndTheFirstCounts(t *testing.T) {
	v := ParseVMCoreInfo([]byte("PAGESIZE=4096\nX=1\nPAGESIZE=8192\n"))
	if n, _ := v.Value("PAGESIZE"); n != 4096 {
		t.Errorf("got %d", n)
	}
	if want := []Line{{"PAGESIZE", "4096"}, {"X", "1"}, {"PAGESIZE", "8192"}}; !slices.Equal(v.Lines, want) {
		t.Errorf("got %v", v.Lines)
	}
}

func TestVMCoreInfoProblems(t *testing.T) {
	for _, c := range []struct {
		name, text string
		lines      int
		offsets    []int64
	}{
		{"no value", "PAGESIZE=4096\njunk\n", 1, []int64{14}},
		{"no key", "=1\n", 0, []int64{0}},
		{"no number", "NUMBER(a)=x\nSYMBOL(b)=\nPAGESIZE=-1\n", 3, []int64{0, 12, 23}},
		{"too large", "NUMBER(a)=18446744073709551616\nNUMBER(b)=-9223372036854775809\n", 2, []int64{0, 31}},
		{"cut off", "PAGESIZE=4096\nSYMBOL(swap", 1, []int64{14}},
		{"behind a NUL", "PAGESIZE=4096\n\x00\x00junk", 1, nil},
		{"empty", "", 0, nil},
		{"too long", "X=" + strings.Repeat("1", MaxVMCoreInfo), 1, []int64{MaxVMCoreInfo}},
		{"many", strings.Repeat("junk\n", 1000), 0, nil},
	} {
		v := ParseVMCoreInfo([]byte(c.text))
		if len(v.Lines) != c.lines {
			t.Errorf("%s: %d lines, want %d", c.name, len(v.Lines), c.lines)
		}
		if c.name == "many" {
			if len(v.Problems) != 100 {
				t.Errorf("%d problems are kept", len(v.Problems))
			}
			continue
		}
		if len(v.Problems) != len(c.offsets) {
			t.Errorf("%s: %v", c.name, v.Problems)
			continue
		}
		for i, off := range c.offsets {
			var bad *remora.FormatError
			if !errors.As(v.Problems[i], &bad) || bad.Offset != off || bad.Err != remora.ErrCorrupt {
				t.Errorf("%s: %v, want offset %d", c.name, v.Problems[i], off)
			}
		}
	}
}

func FuzzVMCoreInfo(f *testing.F) {
	f.Add([]byte("OSRELEASE=6.1.0\nPAGESIZE=4096\nSYMBOL(_stext)=ffffffff81000000\nNUMBER(phys_base)=-161480704\nKERNELOFFSET=0\nNUMBER(x)=0x1\n"))
	f.Add([]byte("PAGESIZE=100000000000000000000\n"))
	f.Add([]byte("=\nX\nSIZE(=1\n\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		v := ParseVMCoreInfo(text)
		if len(v.Lines) > len(text) || len(v.Problems) > 100 {
			t.Fatalf("%d lines, %d problems of %d bytes", len(v.Lines), len(v.Problems), len(text))
		}
		for _, l := range v.Lines {
			if s, ok := v.Text(l.Key); !ok || l.Key == "" || strings.ContainsAny(l.Key, "=\n") || strings.Contains(s, "\n") {
				t.Fatalf("%q: %q", l.Key, s)
			}
			if n, ok := v.Value(l.Key); !ok && n != 0 {
				t.Fatalf("%q: %d without a number", l.Key, n)
			}
		}
	})
}
