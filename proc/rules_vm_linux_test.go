// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/sys/linux"
)

// What the kernel does, on which this package stands: each test makes bare calls.

// vmGives makes one call for size bytes at a, and wants its count and error number. A
// write writes what is there already, where that is known.
func vmGives(t *testing.T, s *specimen.Specimen, write bool, a remora.Addr, size, n int, errno linux.Errno) []byte {
	t.Helper()
	buf := make([]byte, size)
	got, e := linux.VMOne(write, s.Pid(), buf, uint64(a))
	if got != n || e != errno {
		t.Errorf("%d bytes at %v, write %v: %d, %v, want %d, %v", size, a, write, got, e, n, errno)
	}
	return buf[:got]
}

const (
	reads  = false
	writes = true
)

// Not even where a forced write has made the copy.
func TestR36WritesNeedWritePermission(t *testing.T) {
	s := specimentest.Start(t, nil)
	r := mapped(t, s, specimen.Text, 1)
	p := openProcess(t, s.Pid(), &Options{Write: true})
	if _, err := p.Memory().With(remora.Force).WriteAt(t.Context(), []byte{0xcc}, r.Start); err != nil {
		t.Fatal(err)
	}
	vmGives(t, s, writes, r.Start, 1, 0, linux.EFAULT)
}

// resident gives the bytes of a region that are in memory.
func resident(t *testing.T, p *Process, a remora.Addr) uint64 {
	t.Helper()
	for u, err := range p.Usage(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if u.Region.Contains(a) {
			return u.Rss
		}
	}
	t.Fatalf("nothing at %v", a)
	return 0
}

func TestR39NeverTouched(t *testing.T) {
	s := specimentest.Start(t, nil)
	p := openProcess(t, s.Pid(), nil)
	r := layOut(t, s, specimen.Piece{Kind: specimen.Hole, Pages: 1}, specimen.Piece{Kind: specimen.Untouched, Pages: 4},
		specimen.Piece{Kind: specimen.Hole, Pages: 1})[1]
	if got := vmGives(t, s, reads, r.Start, 4*pageSize, 4*pageSize, 0); !bytes.Equal(got, make([]byte, 4*pageSize)) {
		t.Error("not zeros")
	}
	if rss := resident(t, p, r.Start); rss != 0 {
		t.Errorf("a read has brought %d bytes into memory", rss)
	}
	vmGives(t, s, writes, r.Start, pageSize, pageSize, 0)
	if rss := resident(t, p, r.Start); rss != uint64(pageSize) {
		t.Errorf("a write of one page has brought %d bytes into memory", rss)
	}
}

// pair lays out a shared file and another mapping of it, and writes to the latter.
func pair(t *testing.T, other specimen.Kind) (s *specimen.Specimen, file, alias area) {
	t.Helper()
	s = specimentest.Start(t, nil)
	areas := layOut(t, s, specimen.Piece{Kind: specimen.SharedFile, Pages: 1}, specimen.Piece{Kind: other, Pages: 1})
	if n, e := linux.VMOne(writes, s.Pid(), []byte("written"), uint64(areas[1].Start)); n != 7 || e != 0 {
		t.Fatal(n, e)
	}
	if got := vmGives(t, s, reads, areas[1].Start, 7, 7, 0); string(got) != "written" {
		t.Errorf("it holds %q", got)
	}
	return s, areas[0], areas[1]
}

func TestR40PrivateMappingsAreCopied(t *testing.T) {
	s, file, _ := pair(t, specimen.PrivateAlias)
	want := s.Contents(specimen.SharedFile, file.Range)[:7]
	if got := vmGives(t, s, reads, file.Start, 7, 7, 0); !bytes.Equal(got, want) {
		t.Errorf("the file holds %x, want %x", got, want)
	}
}

func TestR41SharedMappingsAreWritten(t *testing.T) {
	s, file, _ := pair(t, specimen.Alias)
	if got := vmGives(t, s, reads, file.Start, 7, 7, 0); string(got) != "written" {
		t.Errorf("the file holds %q", got)
	}

	// What is behind the end of a file in its last page is zeros, and can be written.
	end := mapped(t, s, specimen.FileEnd, 2)
	tail := end.Start + remora.Addr(pageSize-specimen.EndGap)
	if got := vmGives(t, s, reads, tail, specimen.EndGap, specimen.EndGap, 0); !bytes.Equal(got, make([]byte, specimen.EndGap)) {
		t.Errorf("behind the end there is %x", got)
	}
	vmGives(t, s, writes, tail, specimen.EndGap, specimen.EndGap, 0)
}

func TestR46ImpossibleAddresses(t *testing.T) {
	s := specimentest.Start(t, nil)
	list := []remora.Addr{0, 1, 8, remora.Addr(^uintptr(0)) - 7, remora.Addr(^uintptr(0)>>1) + 1, remora.Addr(^uintptr(0) >> 1)}
	if ^uintptr(0)>>32 != 0 {
		top := uint64(1) << 47
		list = append(list, remora.Addr(top), remora.Addr(^top+1), remora.Addr(uint64(0xffff8880)<<32), remora.Addr(1)<<60)
	}
	for _, a := range list {
		if !fits(a, 8) {
			continue
		}
		vmGives(t, s, reads, a, 8, 0, linux.EFAULT)
		vmGives(t, s, writes, a, 8, 0, linux.EFAULT)
	}
	// A length that wraps.
	vmGives(t, s, reads, remora.Addr(^uintptr(0))-7, 64, 0, linux.EFAULT)
}
