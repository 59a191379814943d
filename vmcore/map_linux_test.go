// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"runtime"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/vmcore"
)

// TestCutWhileMapped cuts a file off while it is open: what was behind the new end is
// lost, whatever its bytes were, and what is before it is still there.
func TestCutWhileMapped(t *testing.T) {
	const size = 20 * page
	for name, content := range map[string]func(i int) byte{
		"zeros": func(int) byte { return 0 },
		"bytes": func(i int) byte { return byte(i%255) + 1 },
		"mixed": func(i int) byte { return byte(i>>9) & 1 },
	} {
		b := make([]byte, size)
		for i := range b {
			b[i] = content(i)
		}
		for _, end := range []int{0, 1, page - 1, page, 5*page + 7, 5*page + 4095, 18 * page, 18*page + 1, 19 * page, size - page + 1, size - 1, size} {
			path := saveFile(t, b)
			m, err := vmcore.Open(path, &vmcore.Options{Format: vmcore.Raw})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, int64(end)); err != nil {
				t.Fatal(err)
			}
			for _, start := range []int{0, 3, page, end - 9, end - 1, end, end + 1, end + 9, end + page, size - 20} {
				for _, n := range []int{1, 8, 100, page, 3*page + 1, size} {
					if start >= 0 && start+n <= size {
						readCut(t, name, m, b, start, n, end)
					}
				}
			}
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// readCut reads n bytes of a file that now ends at end.
func readCut(t *testing.T, name string, m *vmcore.Image, b []byte, start, n, end int) {
	t.Helper()
	buf := make([]byte, n)
	got, err := m.Memory().ReadAt(context.Background(), buf, remora.Addr(start))
	want := max(min(n, end-start), 0)
	if got != want || !bytes.Equal(buf[:got], b[start:start+got]) || want < n && !errors.Is(err, remora.ErrTruncated) || want == n && err != nil {
		t.Fatalf("%s, cut at 0x%x: %d of %d bytes at 0x%x, want %d: %v", name, end, got, n, start, want, err)
	}
	var segs []remora.Seg
	for at := 0; at < n; at += 1000 {
		segs = append(segs, remora.Seg{Addr: remora.Addr(start + at), Buf: make([]byte, min(1000, n-at))})
	}
	_, _ = m.Transfer(context.Background(), remora.Read, segs)
	for _, s := range segs {
		at := int(s.Addr)
		want := max(min(len(s.Buf), end-at), 0)
		if s.N != want || !bytes.Equal(s.Buf[:s.N], b[at:at+s.N]) || want < len(s.Buf) != errors.Is(s.Err, remora.ErrTruncated) {
			t.Fatalf("%s, cut at 0x%x, a vector: %d of %d bytes at 0x%x, want %d: %v", name, end, s.N, len(s.Buf), at, want, s.Err)
		}
	}
}

// TestWriteIsSeen writes with system calls what is then read through the mapping.
func TestWriteIsSeen(t *testing.T) {
	path := saveFile(t, make([]byte, 8*page))
	m, err := vmcore.Open(path, &vmcore.Options{Format: vmcore.Raw, Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx := context.Background()
	for _, a := range []remora.Addr{0, page - 2, 7*page - 3, 8*page - 8} {
		want := []byte{1, 2, 3, 4, 5, 6, 7, 8}
		if _, err := m.Memory().WriteAt(ctx, want, a); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 8)
		if _, err := m.Memory().ReadAt(ctx, got, a); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v: %v, %v", a, got, err)
		}
	}
}

// TestHolesStay reads a file in memory that is made of holes: that must not fill them.
func TestHolesStay(t *testing.T) {
	f, err := os.CreateTemp("/dev/shm", "remora-test-*")
	if err != nil {
		testneed.Lacks(t, err.Error())
	}
	defer os.Remove(f.Name())
	defer f.Close()
	const size = 64 * page
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	m, err := vmcore.Open(f.Name(), &vmcore.Options{Format: vmcore.Raw})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	buf := make([]byte, size)
	if n, err := m.Memory().ReadAt(context.Background(), buf, 0); n != size || err != nil {
		t.Fatal(n, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Blocks != 0 {
		t.Errorf("%d blocks, %v", st.Blocks, err)
	}
}

// TestCallersFault reads into a buffer that is not there. That is a mistake of the caller,
// and no answer of the image: it must come as a panic, and not end the process.
func TestCallersFault(t *testing.T) {
	m := openImage(t, make([]byte, 8*page), &vmcore.Options{Format: vmcore.Raw})
	buf, err := unix.Mmap(-1, 0, page, unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(buf) }()
	if !slices.Contains([]string{"amd64", "arm64", "riscv64"}, runtime.GOARCH) {
		// Nothing is mapped: the system call refuses the buffer.
		if n, err := m.Memory().ReadAt(context.Background(), buf, 0); n != 0 || !errors.Is(err, remora.ErrIO) {
			t.Errorf("%d bytes, %v", n, err)
		}
		return
	}
	defer func() {
		if p, ok := recover().(error); !ok {
			t.Errorf("no panic: %v", p)
		}
	}()
	_, err = m.Memory().ReadAt(context.Background(), buf, 0)
	t.Errorf("an answer: %v", err)
}
