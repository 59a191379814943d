// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// convert writes an image of files, as the verb convert does, and gives its name.
func convert(t testing.TB, files string, o vmcore.WriteOptions) string {
	t.Helper()
	src, err := target.Open(context.Background(), "vmcore:"+files, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	return imageFrom(t, src, o)
}

// imageFrom writes an image of a target to a file.
func imageFrom(t testing.TB, src remora.Target, o vmcore.WriteOptions) string {
	t.Helper()
	content, err := target.Content(t.Context(), src)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "converted")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o.Fresh = true
	if _, err := vmcore.Write(t.Context(), f, content, &o); err != nil {
		t.Fatal(err)
	}
	return name
}

var (
	asELF  = vmcore.WriteOptions{To: vmcore.ELF}
	asZlib = vmcore.WriteOptions{To: vmcore.Kdump, Codec: vmcore.Zlib}
	asZstd = vmcore.WriteOptions{To: vmcore.Kdump, Codec: vmcore.Zstd}
)

// TestRealConvert converts images of real kernels there and back.
func TestRealConvert(t *testing.T) {
	for i, machine := range vmlab.Machines() {
		if i > 0 && !everything() || machine.MiB > 1<<10 {
			continue // one says most of it; the large ones say no more
		}
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			first := convert(t, m.Dump(vmlab.ELF), asELF)
			packed := convert(t, m.Dump(vmlab.ELF), asZstd)
			again := convert(t, packed, asELF)
			before, after := openImage(t, first, nil), openImage(t, again, nil)
			sameMemory(t, before, after)
			sameMemory(t, openImage(t, m.Dump(vmlab.ELF), nil), after)
			m.compare(t, after)
			a, b := readAll(t, first), readAll(t, again)
			if !bytes.Equal(a, b) {
				t.Errorf("ELF, and ELF by way of kdump, are of %d and %d bytes, and differ", len(a), len(b))
			}
		})
	}
}

func readAll(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sameMemory wants two images to have the same memory, and to say the same of the machine.
func sameMemory(t *testing.T, a, b *vmcore.Image) {
	t.Helper()
	var runs [2][]vmcore.Run
	for i, img := range []*vmcore.Image{a, b} {
		for r, err := range img.Runs(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			list := runs[i]
			if n := len(list); n > 0 && list[n-1].Err == r.Err && list[n-1].Last()+1 == r.Start {
				list[n-1].Size += r.Size
				continue
			}
			runs[i] = append(list, vmcore.Run{Range: r.Range, Err: r.Err})
		}
	}
	if len(runs[0]) == 0 || len(runs[0]) != len(runs[1]) {
		t.Fatalf("%d and %d runs", len(runs[0]), len(runs[1]))
	}
	x, y := make([]byte, chunk), make([]byte, chunk)
	for i, r := range runs[0] {
		if r != runs[1][i] {
			t.Fatalf("runs %+v and %+v", r, runs[1][i])
		}
		for at := uint64(0); r.Err == nil && at < r.Size; at += uint64(len(x)) {
			n := min(uint64(len(x)), r.Size-at)
			_, err := a.Memory().ReadAt(t.Context(), x[:n], r.Start+remora.Addr(at))
			_, other := b.Memory().ReadAt(t.Context(), y[:n], r.Start+remora.Addr(at))
			if err != nil || other != nil || !bytes.Equal(x[:n], y[:n]) {
				t.Fatalf("at %v: %v, %v, or other bytes", r.Start+remora.Addr(at), err, other)
			}
		}
	}
	p, q := a.Meta(), b.Meta()
	if p.VMCoreInfo == nil && bytes.HasPrefix(q.VMCoreInfo, []byte("OSRELEASE=")) { // found in memory, and added
		p.VMCoreInfo, p.PageSize = q.VMCoreInfo, q.PageSize
	}
	if !bytes.Equal(p.VMCoreInfo, q.VMCoreInfo) || p.Machine != q.Machine || p.PageSize != q.PageSize || len(p.CPUs) != len(q.CPUs) {
		t.Errorf("%v, %d, %d processors; and %v, %d, %d processors", p.Machine, p.PageSize, len(p.CPUs), q.Machine, q.PageSize, len(q.CPUs))
	}
	for i := range p.CPUs {
		for name, n := range p.CPUs[i].Regs {
			if q.CPUs[i].Regs[name] != n {
				t.Errorf("processor %d: %s is 0x%x and 0x%x", i, name, n, q.CPUs[i].Regs[name])
			}
		}
	}
}
