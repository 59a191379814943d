// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// benchImage is an ELF image of 64 MiB in runs of 4 MiB, in a file.
func benchImage(b *testing.B, o *vmcore.Options) (*vmcore.Image, *testimage.Physical, string) {
	mem := &testimage.Physical{}
	for pfn := uint64(0); pfn < 16<<10; pfn++ {
		mem.Set(pfn+pfn>>10, bytes.Repeat([]byte{1}, page))
	}
	path := filepath.Join(b.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	if _, err := (&testimage.VMCore{Mem: mem, Skew: 0x4dc}).WriteTo(f); err != nil {
		b.Fatal(err)
	}
	m, err := vmcore.Open(path, o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m, mem, path
}

// BenchmarkELFRandom reads 8 bytes at random addresses: through Memory, and through the
// Space. Near is within 256 KiB, which caches hold, unmapped is with system calls, and
// load is a load from the mapped file.
func BenchmarkELFRandom(b *testing.B) {
	ctx := context.Background()
	m, mem, path := benchImage(b, nil)
	pfns := mem.PFNs()
	addrs := make([]remora.Addr, 1<<16)
	for i := range addrs {
		addrs[i] = remora.Addr(pfns[rand.IntN(len(pfns))]*page + rand.Uint64N(page-8))
	}
	near := make([]remora.Addr, len(addrs))
	for i := range near {
		near[i] = remora.Addr(rand.Uint64N(256<<10 - 8))
	}
	at := func(b *testing.B, addrs []remora.Addr, read func(a remora.Addr)) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			read(addrs[i%len(addrs)])
		}
	}
	buf := make([]byte, 8)
	b.Run("ReadAt", func(b *testing.B) {
		at(b, addrs, func(a remora.Addr) { _, _ = m.Memory().ReadAt(ctx, buf, a) })
	})
	segs := []remora.Seg{{Buf: buf}}
	transfer := func(m *vmcore.Image, addrs []remora.Addr) func(b *testing.B) {
		return func(b *testing.B) {
			at(b, addrs, func(a remora.Addr) {
				segs[0].Addr = a
				if _, err := m.Transfer(ctx, remora.Read, segs); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
	b.Run("Transfer", transfer(m, addrs))
	b.Run("near", transfer(m, near))
	unmapped, _, _ := benchImage(b, &vmcore.Options{NoMap: true})
	b.Run("unmapped", transfer(unmapped, addrs))
	mapped := mapping(b, path)
	b.Run("load", func(b *testing.B) {
		at(b, addrs, func(a remora.Addr) { copy(buf, mapped[a:]) })
	})
}

// mapping maps a file as the image does.
func mapping(b *testing.B, path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = unix.Munmap(mapped) })
	return mapped
}

// BenchmarkELFSequential reads all in pieces of 1 MiB. Memcpy is a copy of the mapped bytes.
func BenchmarkELFSequential(b *testing.B) {
	ctx := context.Background()
	m, mem, path := benchImage(b, nil)
	buf := make([]byte, 1<<20)
	b.Run("image", func(b *testing.B) {
		b.SetBytes(int64(len(mem.Pages)) * page)
		for b.Loop() {
			for r := range m.Runs(ctx) {
				for at := uint64(0); at < r.Size; at += 1 << 20 {
					if _, err := m.Memory().ReadAt(ctx, buf[:min(r.Size-at, 1<<20)], r.Start+remora.Addr(at)); err != nil {
						b.Fatal(err)
					}
				}
			}
		}
	})
	mapped := mapping(b, path)
	b.Run("memcpy", func(b *testing.B) {
		b.SetBytes(int64(len(mapped)))
		for b.Loop() {
			for at := 0; at < len(mapped); at += 1 << 20 {
				copy(buf, mapped[at:])
			}
		}
	})
}
