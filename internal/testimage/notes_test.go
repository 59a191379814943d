// SPDX-License-Identifier: Apache-2.0

package testimage_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"io"
	"testing"

	"github.com/remora-go/remora/internal/testimage"
)

func TestKernelNotes(t *testing.T) {
	c := &testimage.Core{}
	for arch, want := range map[string]struct{ regs, size int }{"x86-64": {27, 336}, "arm64": {34, 392}, "riscv64": {32, 376}} {
		regs := make([]uint64, want.regs)
		regs[0], regs[want.regs-1] = 1, 99
		n := c.PRStatus(7, 0, regs...)
		if len(n.Desc) != want.size || n.Name != "CORE" || n.Type != 1 {
			t.Errorf("%s: %d bytes, want %d", arch, len(n.Desc), want.size)
		}
		if le.Uint32(n.Desc[32:]) != 7 || le.Uint64(n.Desc[112:]) != 1 || le.Uint64(n.Desc[112+8*(want.regs-1):]) != 99 {
			t.Errorf("%s: %x", arch, n.Desc)
		}
	}
	q := testimage.QEMUState{RIP: 5, CR: [5]uint64{0: 1, 3: 2, 4: 3}, KernelGS: 4}
	q.Segments[9] = testimage.QEMUSegment{Selector: 6, Limit: 7, Flags: 8, Base: 9}
	b := q.Note().Desc
	for off, want := range map[int]uint64{8 + 128: 5, 392: 1, 416: 2, 424: 3, 432: 4, 152 + 9*24: 7<<32 | 6, 152 + 9*24 + 8: 8, 384: 9} {
		if got := le.Uint64(b[off:]); got != want {
			t.Errorf("at %d is %#x, want %#x", off, got, want)
		}
	}
	if len(b) != 440 || le.Uint32(b) != 1 || le.Uint32(b[4:]) != 440 {
		t.Errorf("%d bytes: %x", len(b), b[:8])
	}
	if d := testimage.DeviceDump("card", []byte("dump")); len(d.Desc) != 48 || d.Type != 0x700 {
		t.Errorf("%+v", d)
	}
	for _, n := range testimage.XenNotes() {
		if n.Name != "Xen" || n.Type>>24 != 1 || len(n.Desc) == 0 {
			t.Errorf("%+v", n)
		}
	}
	if s := string(testimage.VMCoreInfo("A", "1", "B", "x=y")); s != "A=1\nB=x=y\n" {
		t.Errorf("%q", s)
	}
}

func TestSignatures(t *testing.T) {
	seen := make(map[string]bool)
	for _, s := range testimage.Signatures() {
		if len(s.Header) < 4 || seen[string(s.Header)] || !bytes.HasPrefix(s.File(5000), s.Header) {
			t.Errorf("%s: %x", s.Name, s.Header)
		}
		seen[string(s.Header)] = true
		var r io.Reader
		var err error
		switch s.Name {
		case "gzip":
			r, err = gzip.NewReader(bytes.NewReader(s.Header))
		case "LiME, compressed":
			r, err = zlib.NewReader(bytes.NewReader(s.Header))
		default:
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r); err != nil || string(b[:4]) != "EMiL" && string(b[:4]) != "KDUM" {
			t.Errorf("%s holds %q, %v", s.Name, b[:4], err)
		}
	}
	if len(seen) < 20 {
		t.Errorf("%d signatures", len(seen))
	}
}

func TestSparse(t *testing.T) {
	var s testimage.Sparse
	for _, w := range []struct {
		off int64
		b   string
	}{{1 << 40, "far"}, {65534, "across"}, {0, "first"}} {
		if n, err := s.WriteAt([]byte(w.b), w.off); n != len(w.b) || err != nil {
			t.Fatal(n, err)
		}
		b := make([]byte, len(w.b))
		if n, err := s.ReadAt(b, w.off); n != len(b) || err != nil || string(b) != w.b {
			t.Errorf("%q, %d, %v", b, n, err)
		}
	}
	b := make([]byte, 10)
	if n, err := s.ReadAt(b, 1<<40); n != 3 || err != io.EOF || s.Size() != 1<<40+3 {
		t.Errorf("%d, %v, size %d", n, err, s.Size())
	}
	if n, err := s.ReadAt(b, 1<<30); n != 10 || err != nil || !bytes.Equal(b, make([]byte, 10)) {
		t.Errorf("%q, %d, %v", b, n, err)
	}
	s.Truncate(65536)
	s.Truncate(70000)
	if n, err := s.ReadAt(b[:6], 65534); n != 6 || err != nil || string(b[:6]) != "ac\x00\x00\x00\x00" || len(s.Bytes()) != 70000 {
		t.Errorf("%q, %d, %v", b, n, err)
	}
}
