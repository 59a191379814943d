// SPDX-License-Identifier: Apache-2.0

package vmcore_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/vmcore"
)

// TestELFFlat reads ELF images in flattened streams.
func TestELFFlat(t *testing.T) {
	mem := memory(4)
	b := (&testimage.VMCore{Mem: mem, Skew: 0x123, Notes: []testimage.Note{info()}}).Bytes()
	for _, o := range []testimage.FlatOptions{{}, {Seed: 1, Shuffle: true, Rewrite: 20}, {Max: 100000, SkipZeros: true}} {
		flat := testimage.Flatten(b, o)
		m := openImage(t, flat, &vmcore.Options{Write: true})
		compare(t, m, mem)
		if meta := m.Meta(); meta.Format != vmcore.ELF || !meta.Parts[0].Flat || m.Info().Writable || !strings.HasSuffix(meta.Reason, "inside a flattened stream") {
			t.Errorf("%+v", meta)
		}
	}
}

// TestELFFlatCut cuts the stream off. What no record holds is lost, and never zeros.
func TestELFFlatCut(t *testing.T) {
	mem := wholly(testimage.Random(7, page, 40))
	b := (&testimage.VMCore{Mem: mem}).Bytes()
	for seed := range uint64(20) {
		flat := testimage.Flatten(b, testimage.FlatOptions{Seed: seed, Shuffle: true, Max: 3000, Cut: len(b) / 3})
		m, err := vmcore.New([]vmcore.File{inMemory("x", flat)}, nil)
		if err != nil {
			continue // the header is among what is missing
		}
		saved := 0
		buf := make([]byte, page)
		for r := range m.Runs(context.Background()) {
			if r.Err == nil {
				saved += int(r.Size)
			} else if !errors.Is(r.Err, remora.ErrTruncated) {
				t.Errorf("%v", r)
			}
		}
		if saved == 0 || saved > len(b)*2/3+page {
			t.Errorf("seed %d: %d bytes of %d saved", seed, saved, len(b))
		}
		for pfn := range mem.End() {
			want, class := mem.Page(pfn)
			if class != testimage.Saved {
				continue
			}
			n, err := m.Memory().ReadAt(context.Background(), buf, remora.Addr(pfn*page))
			if !bytes.Equal(buf[:n], want[:n]) || n < page && !errors.Is(err, remora.ErrTruncated) {
				t.Fatalf("seed %d: page %d: %d bytes, %v", seed, pfn, n, err)
			}
			if n < page && !strings.Contains(err.Error(), "a record") {
				t.Errorf("%v", err)
			}
		}
		walk(t, m)
		if all := damages(t, m); len(all) == 0 || all[0].Err != remora.ErrTruncated {
			t.Errorf("seed %d: %v", seed, all)
		}
		m.Close()
	}
}
