// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"context"
	"math/rand/v2"
	"os"
	"sync"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
)

// programPages is count pages of this program: what memory is mostly like.
func programPages(b testing.TB, count int) *testimage.Physical {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	raw, err := os.ReadFile(self)
	if err != nil {
		b.Fatal(err)
	}
	mem := &testimage.Physical{}
	for pfn := range uint64(count) {
		at := int(pfn) * 4096 % (len(raw) - 4096)
		mem.Set(pfn, raw[at:at+4096])
	}
	return mem
}

const benchPages = 4096

// benchImage is an image of 16 MiB in a file.
func benchImage(b *testing.B, o *Options, method testimage.Method) *Image {
	k := testimage.NewKdump(programPages(b, benchPages))
	k.Compress = method
	f, err := os.CreateTemp(b.TempDir(), "")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	l, err := k.WriteTo(f)
	if err != nil {
		b.Fatal(err)
	}
	m, err := openKdumpSources(o, &source{name: f.Name(), size: l.End, r: f})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.Close() })
	return m
}

func benchSequential(b *testing.B, m *Image, goroutines, piece int) {
	const size = benchPages * 4096
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		var wait sync.WaitGroup
		for g := range goroutines {
			wait.Go(func() {
				buf := make([]byte, piece)
				for at := size / goroutines * g; at < size/goroutines*(g+1); at += piece {
					if _, err := m.Memory().ReadAt(context.Background(), buf, remora.Addr(at)); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wait.Wait()
	}
}

// BenchmarkKdumpSequential reads from one end to the other. Readers are helped by a
// crew of as many as there are other processors: -cpu says how many work in all.
func BenchmarkKdumpSequential(b *testing.B) {
	for _, method := range testimage.Methods() {
		if method == testimage.Mixed {
			continue
		}
		b.Run(method.String(), func(b *testing.B) {
			m := benchImage(b, nil, method)
			b.Run("1 reader", func(b *testing.B) { benchSequential(b, m, 1, 1<<20) })
			b.Run("2 readers", func(b *testing.B) { benchSequential(b, m, 2, 1<<20) })
		})
	}
	b.Run("small", func(b *testing.B) {
		m := benchImage(b, &Options{CacheBytes: 1 << 20}, testimage.Zlib)
		benchSequential(b, m, 1, 512)
	})
}

// BenchmarkKdumpRandom reads 8 bytes anywhere.
func BenchmarkKdumpRandom(b *testing.B) {
	for _, c := range []struct {
		name  string
		cache int
		pages uint64
	}{{"hit", 64 << 20, 1024}, {"miss", 64 << 10, benchPages}} {
		b.Run(c.name, func(b *testing.B) {
			m := benchImage(b, &Options{CacheBytes: c.cache}, testimage.Zlib)
			rng := rand.New(rand.NewPCG(1, 2))
			addrs := make([]remora.Addr, 1<<14)
			for i := range addrs {
				addrs[i] = remora.Addr(rng.Uint64N(c.pages*4096)) &^ 7
			}
			var buf [8]byte
			seg := []remora.Seg{{Buf: buf[:]}}
			read := func(i int) {
				seg[0].Addr = addrs[i%len(addrs)]
				if _, err := m.Transfer(context.Background(), remora.Read, seg); err != nil {
					b.Fatal(err)
				}
			}
			for i := range addrs {
				read(i)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				read(i)
				i++
			}
		})
	}
}
