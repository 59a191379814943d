// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/vmcore"
)

// pages says what became of each page from address 0 on: nil for one that an image has,
// or the cause for which it has not. Of a page that is there in part it is the cause of
// the rest.
type pages []error

// count counts the pages that have a cause.
func (p pages) count(why error) (n int) {
	for _, c := range p {
		if c == why {
			n++
		}
	}
	return n
}

// rom reads memory that is not in the file of the guest's: the ROM of its firmware, from
// QEMU's ELF image by another reader. It gives the bytes that lie in one piece.
func (m *moment) rom(t testing.TB, p []byte, a remora.Addr) uint64 {
	t.Helper()
	f, err := elf.Open(m.Dump(vmlab.ELF))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, s := range f.Progs {
		if s.Type == elf.PT_LOAD && uint64(a) >= s.Paddr && uint64(a) < s.Paddr+s.Filesz {
			n := min(uint64(len(p)), s.Paddr+s.Filesz-uint64(a))
			if _, err := s.ReadAt(p[:n], int64(uint64(a)-s.Paddr)); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("the guest had no memory at %v", a)
	return 0
}

// compare holds every byte that an image has against the guest's memory, and every page
// that it lacks (of a hole every 64th) against what reading it says.
func (m *moment) compare(t *testing.T, img *vmcore.Image) pages {
	t.Helper()
	all := make(pages, m.end()/page)
	for i := range all {
		all[i] = remora.ErrHole
	}
	buffers := make([]byte, 2*chunk)
	for r, err := range img.Runs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Err == nil {
			m.compareRun(t, img, r, buffers[:chunk], buffers[chunk:])
		}
		for at := uint64(r.Start) / page; at < uint64(len(all)) && at <= uint64(r.Last())/page; at++ {
			whole := at*page >= uint64(r.Start) && at*page+page-1 <= uint64(r.Last())
			if whole || r.Err != nil || all[at] == remora.ErrHole {
				all[at] = cause(r.Err)
			}
		}
	}
	for i, want := range all {
		if want == nil || want == remora.ErrHole && i%64 != 0 && i > 0 && all[i-1] == want {
			continue
		}
		at := remora.Addr(i)*page + page - 1
		if _, err := img.Memory().Uint8(t.Context(), at); cause(err) != want {
			t.Fatalf("%v: %v, want %v", at, err, want)
		}
	}
	return all
}

// chunk is how much is read and compared at a time, in bytes.
const chunk = 1 << 20

// compareRun holds a run that an image has against the guest's memory, by two buffers.
func (m *moment) compareRun(t *testing.T, img *vmcore.Image, r vmcore.Run, got, want []byte) {
	t.Helper()
	for at := r.Start; ; {
		n := min(chunk, uint64(r.Last()-at)+1)
		if _, size, ok := m.at(at); ok {
			n = min(n, size)
			m.physical(t, want[:n], at)
		} else {
			n = m.rom(t, want[:n], at)
		}
		if _, err := img.Memory().ReadAt(t.Context(), got[:n], at); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:n], want[:n]) {
			for i := range n {
				if got[i] != want[i] {
					t.Fatalf("%v is 0x%x in the image and 0x%x in the guest", at+remora.Addr(i), got[i], want[i])
				}
			}
		}
		if at += remora.Addr(n); at-1 == r.Last() {
			return
		}
	}
}

// zeros says which pages of the guest's memory are of zeros.
func (m *moment) zeros(t *testing.T) []bool {
	all := make([]bool, m.end()/page)
	memory, none := make([]byte, 256*page), make([]byte, page)
	for i := 0; i < len(all); i += 256 {
		m.physical(t, memory, remora.Addr(i)*page)
		for j := range 256 {
			all[i+j] = bytes.Equal(memory[j*page:][:page], none)
		}
	}
	return all
}

// excluded are the pages that makedumpfile says it left out, by the names it has for the
// kinds. An image in ELF form keeps what is left out in short runs.
func excluded(t *testing.T, report string) map[string]int {
	t.Helper()
	all := map[string]int{}
	for line := range strings.Lines(report) {
		key, value, ok := strings.Cut(line, ":")
		key = strings.TrimSpace(key)
		if n, err := strconv.ParseInt(strings.TrimSpace(value), 0, 64); ok && err == nil {
			if _, twice := all[key]; !twice {
				all[key] = int(n)
			}
		}
	}
	if _, ok := all[kindFree]; !ok {
		t.Fatalf("no numbers of pages in %s", report)
	}
	return all
}

// What makedumpfile calls the pages that it leaves out.
const (
	kindAll     = "Excluded pages"
	kindELF     = "in ELF format"
	kindZero    = "Pages filled with zero"
	kindCache   = "Non-private cache pages"
	kindPrivate = "Private cache pages"
	kindUser    = "User process data pages"
	kindFree    = "Free pages"
)

// TestRealFormats holds all images of one moment against the memory that the guest had:
// each byte of each, and the cause of each page that one lacks.
func TestRealFormats(t *testing.T) {
	m := openMoment(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	zero := m.zeros(t)
	formats := append(vmlab.Makedumpfiles(), vmlab.ELF, vmlab.ELFPaging, vmlab.Vmcore, vmlab.KdumpZlib)
	for _, f := range []vmlab.Format{vmlab.KdumpLZO, vmlab.KdumpSnappy} {
		if m.Has(f) {
			formats = append(formats, f)
		}
	}
	filtered := map[bool]pages{} // what was left out at level 31, by whether it is in ELF form
	for _, f := range formats {
		t.Run(string(f), func(t *testing.T) {
			img := m.image(t, f)
			p := m.compare(t, img)
			m.testCheck(t, f, img)
			t.Logf("%d saved, %d not saved, %d lost, %d hole", p.count(nil), p.count(remora.ErrNotSaved), p.count(remora.ErrTruncated), p.count(remora.ErrHole))
			inELF := strings.Contains(string(f), "elf")
			switch {
			case f == vmlab.ELFPaging:
				m.testUnmapped(t, p)
			case strings.Contains(string(f), "-cut-"):
				testCut(t, p, zero)
			case !strings.HasPrefix(string(f), "makedumpfile-"):
				p.all(t, nil)
			default:
				testReported(t, p, zero, inELF, excluded(t, m.Report(f)))
				if !strings.HasSuffix(string(f), "-31") {
					break
				}
				if filtered[inELF] == nil {
					filtered[inELF] = p
				} else if !slices.Equal(p, filtered[inELF]) {
					t.Error("it lacks other pages than others of the same filter")
				}
			}
		})
	}
	if filtered[true] == nil || filtered[false] == nil {
		return // not all of this was run
	}
	for i, why := range filtered[true] {
		if why != nil && filtered[false][i] == nil && !zero[i] {
			t.Fatalf("page 0x%x is in the kdump image and not in the one in ELF form", i)
		}
	}
}

// testCheck wants that nothing is damaged in an image but in one that was cut off. Of the
// larger ones of makedumpfile one is enough.
func (m *moment) testCheck(t *testing.T, f vmlab.Format, img *vmcore.Image) {
	t.Helper()
	cut := strings.Contains(string(f), "-cut-")
	if !cut && strings.HasPrefix(string(f), "makedumpfile-") && !strings.HasSuffix(string(f), "-31") && f != vmlab.MakedumpfileLZO1 {
		return
	}
	damage := 0
	err := img.Check(t.Context(), func(e *remora.FormatError) {
		if damage++; !cut {
			t.Error(e)
		}
	})
	if err != nil || cut != (damage > 0) {
		t.Errorf("%d things are damaged, %v", damage, err)
	}
}

// all wants the same of each page.
func (p pages) all(t *testing.T, want error) {
	t.Helper()
	for i, why := range p {
		if why != want {
			t.Fatalf("page 0x%x: %v, want %v", i, why, want)
		}
	}
}

// testUnmapped wants that an image of what page tables map lacks no memory of the kernel's.
func (m *moment) testUnmapped(t *testing.T, p pages) {
	ram := make([]bool, len(p))
	for line := range strings.Lines(string(m.Truth().File("proc/iomem"))) {
		var start, end int
		if n, _ := fmt.Sscanf(line, "%x-%x : System RAM", &start, &end); n == 2 && strings.Contains(line, "System RAM") {
			for i := (start + page - 1) / page; i < min((end+1)/page, len(p)); i++ {
				ram[i] = true
			}
		}
	}
	for i, why := range p {
		if why != nil && (why != remora.ErrHole || ram[i]) {
			t.Errorf("page 0x%x: %v; it is the kernel's: %v", i, why, ram[i])
		}
	}
	if !slices.Contains(ram, true) {
		t.Error("no memory in /proc/iomem")
	}
}

// testCut wants that an image holds all up to a page, and nothing behind it: what is not
// there is lost, or is of zeros and was left out.
func testCut(t *testing.T, p pages, zero []bool) {
	cut := slices.Index(p, error(remora.ErrTruncated))
	if cut < 1000 {
		t.Fatalf("it is cut off at page 0x%x", cut)
	}
	for i, why := range p {
		leftOut := why == remora.ErrNotSaved && zero[i]
		if !leftOut && (i < cut && why != nil || i > cut && why != remora.ErrTruncated) {
			t.Fatalf("page 0x%x: %v; it is cut off at page 0x%x", i, why, cut)
		}
	}
	if n := p.count(remora.ErrTruncated); n < len(p)/2 {
		t.Errorf("only %d pages are lost", n)
	}
}

// testReported holds the number of pages that are left out against what makedumpfile
// says. It says of pages of zeros that it left them out, but a kdump image has them as
// one page that all share; the parts of a split one are not reported by kind.
func testReported(t *testing.T, p pages, zero []bool, inELF bool, report map[string]int) {
	shared := 0
	for i, why := range p {
		if why != nil && why != remora.ErrNotSaved {
			t.Fatalf("page 0x%x: %v", i, why)
		}
		if why == nil && zero[i] {
			shared++
		}
	}
	want := report[kindAll] - report[kindZero]
	if inELF {
		want = report[kindELF]
	} else if report[kindZero] != 0 && report[kindZero] != shared {
		t.Errorf("%d pages of zeros are shared, makedumpfile says %d", shared, report[kindZero])
	}
	if n := p.count(remora.ErrNotSaved); n != want {
		t.Errorf("%d pages are left out, makedumpfile says %d", n, want)
	}
}
