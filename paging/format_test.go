// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
)

// Options that make no sense are refused.
func TestFormatsThatThereAreNot(t *testing.T) {
	for name, f := range map[string]func() (*Format, error){
		"levels":   func() (*Format, error) { return X86(X86Options{Levels: 3}) },
		"sme":      func() (*Format, error) { return X86(X86Options{SMEMask: 1 << 60}) },
		"special":  func() (*Format, error) { return X86(X86Options{Special: &Special{Device: 33}}) },
		"negative": func() (*Format, error) { return RISCV(RISCVOptions{VABits: 39, Special: &Special{Marker: -1}}) },
		"page":     func() (*Format, error) { return ARM64(ARM64Options{PageShift: 13, VABits: 48}) },
		"few":      func() (*Format, error) { return ARM64(ARM64Options{PageShift: 12, VABits: 35}) },
		"many":     func() (*Format, error) { return ARM64(ARM64Options{PageShift: 12, VABits: 53}) },
		"49":       func() (*Format, error) { return ARM64(ARM64Options{PageShift: 12, VABits: 49}) },
		"phys":     func() (*Format, error) { return ARM64(ARM64Options{PageShift: 12, VABits: 48, PhysBits: 60}) },
		"types": func() (*Format, error) {
			return ARM64(ARM64Options{PageShift: 12, VABits: 48, Special: &Special{Poison: 20, Device: 20}})
		},
		"sv32": func() (*Format, error) { return RISCV(RISCVOptions{VABits: 32}) },
	} {
		if got, err := f(); err == nil {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What the geometry of a format is.
func TestFormatShapes(t *testing.T) {
	type shape struct {
		Name    string
		Levels  int
		Top     int // entries in the highest table
		Half    uint
		PageMax uint // the largest leaf, as a shift
	}
	var got []shape
	seen := map[string]bool{}
	for _, m := range machines() {
		f, err := m.format()
		must(t, f, err)
		if seen[f.String()] {
			continue
		}
		seen[f.String()] = true
		s := shape{f.String(), f.Levels(), f.entries(f.levels), f.halfBits(), 0}
		for l := range f.levels + 1 {
			if f.mayMap(l) {
				s.PageMax = f.shift[l]
			}
		}
		got = append(got, s)
	}
	want := []shape{
		{"x86-64, 4 levels", 4, 512, 47, 30},
		{"x86-64, 5 levels", 5, 512, 56, 30},
		{"arm64, 4 KiB pages, 39-bit addresses, 3 levels", 3, 512, 39, 30},
		{"arm64, 4 KiB pages, 48-bit addresses, 4 levels", 4, 512, 48, 30},
		{"arm64, 4 KiB pages, 52-bit addresses, 5 levels, LPA2", 5, 16, 52, 39},
		{"arm64, 16 KiB pages, 36-bit addresses, 2 levels", 2, 2048, 36, 25},
		{"arm64, 16 KiB pages, 47-bit addresses, 3 levels", 3, 2048, 47, 25},
		{"arm64, 16 KiB pages, 48-bit addresses, 4 levels", 4, 2, 48, 25},
		{"arm64, 16 KiB pages, 52-bit addresses, 4 levels, LPA2", 4, 32, 52, 36},
		{"arm64, 64 KiB pages, 42-bit addresses, 2 levels", 2, 8192, 42, 29},
		{"arm64, 64 KiB pages, 48-bit addresses, 3 levels", 3, 64, 48, 42},
		{"arm64, 64 KiB pages, 52-bit addresses, 3 levels", 3, 1024, 52, 42},
		{"riscv64, Sv39", 3, 512, 38, 30},
		{"riscv64, Sv39, T-Head", 3, 512, 38, 30},
		{"riscv64, Sv48", 4, 512, 47, 39},
		{"riscv64, Sv48, T-Head", 4, 512, 47, 39},
		{"riscv64, Sv57", 5, 512, 56, 48},
		{"riscv64, Sv57, T-Head", 5, 512, 56, 48},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The special types of the kernels that were looked at.
func TestSpecialTypes(t *testing.T) {
	for v, want := range map[Version]Special{
		{}:      {1, 3, 3, 1, 0},
		{7, 2}:  {1, 3, 3, 1, 0},
		{6, 15}: {1, 3, 3, 1, 0},
		{6, 14}: {1, 3, 4, 1, 0},
		{6, 2}:  {1, 3, 4, 1, 0},
		{6, 1}:  {1, 3, 4, 1, 1},
		{5, 19}: {1, 3, 4, 1, 1},
		{5, 18}: {1, 2, 4, 0, 0},
		{5, 10}: {1, 2, 2, 0, 0},
	} {
		if got := SpecialOf(v); got != want {
			t.Errorf("%v: %+v, want %+v", v, got, want)
		}
	}
	if e := x86(t, 4).Decode(6, 1); e.Kind != KindCorrupt || e.Err() != remora.ErrCorrupt {
		t.Error(e)
	}
}
