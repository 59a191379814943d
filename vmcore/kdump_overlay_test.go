// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compose"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

// TestKdumpSpaceOverlay writes to a compressed image in the way there is: to a layer over
// it.
func TestKdumpSpaceOverlay(t *testing.T) {
	k := testimage.NewKdump(testimage.Random(60, 4096, 25))
	file := k.Bytes()
	areas := kdumpAreas(k.Mem)
	for i := range areas {
		if areas[i].Data != nil {
			areas[i].Fault = nil
		}
	}
	want := kdumpContract(k, 60)
	want.Info.Writable = true
	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
		m, err := openKdumpFiles(nil, file)
		if err != nil {
			t.Fatal(err)
		}
		l := compose.Overlay(m)
		return memtest.Fixture{
			Space: l, Areas: areas,
			Peek:  func(p []byte, a remora.Addr) error { return peekOverlay(areas, l, p, a) },
			Close: func() error { return errors.Join(l.Close(), m.Close()) },
		}
	}, want)
}

// peekOverlay gives what was in the image, but for what the layer says was changed.
func peekOverlay(areas []memtest.Area, l *compose.Layer, p []byte, a remora.Addr) error {
	whole := remora.Range{Start: a, Size: uint64(len(p))}
	for i := range areas {
		if r := areas[i].Intersect(whole); !r.Empty() && areas[i].Data != nil {
			copy(p[r.Start-a:], areas[i].Data[r.Start-areas[i].Start:][:r.Size])
		}
	}
	for _, c := range l.Changes() {
		if r := c.Intersect(whole); !r.Empty() {
			if _, err := remora.New(l).ReadAt(context.Background(), p[r.Start-a:][:r.Size], r.Start); err != nil {
				return err
			}
		}
	}
	return nil
}

// TestWriteChanged changes a compressed image in a layer, and writes what that makes: the
// image itself stays as it was.
func TestWriteChanged(t *testing.T) {
	k := largeKdump()
	k.Compress = testimage.Zlib
	file := k.Bytes()
	m, err := openKdumpFiles(nil, file)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var a remora.Addr
	for r, err := range m.Runs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Err == nil {
			a = r.Start + 17
		}
	}
	layer := compose.Overlay(m)
	defer layer.Close()
	if _, err := remora.New(layer).WriteAt(t.Context(), []byte("changed"), a); err != nil {
		t.Fatal(err)
	}
	c := m.Content()
	c.Space = layer
	var out testimage.Sparse
	if _, err := Write(t.Context(), &out, c, &WriteOptions{To: Kdump, Fresh: true}); err != nil {
		t.Fatal(err)
	}
	changed, err := New([]File{{Name: "changed", Size: out.Size(), R: &out}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer changed.Close()
	for _, it := range []struct {
		m    *Image
		want bool
	}{{changed, true}, {m, false}} {
		got := make([]byte, 7)
		if _, err := it.m.Memory().ReadAt(t.Context(), got, a); err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(got, []byte("changed")) != it.want {
			t.Errorf("%s has %q at %v", it.m.Info().Name, got, a)
		}
	}
}
