// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// model is what a Space means, one byte at a time.
type model interface {
	read(op remora.Op, a remora.Addr) (byte, error)
	write(op remora.Op, a remora.Addr, v byte) error
}

// memModel is a space of its own, moved byte by byte.
type memModel struct{ *memtest.Sparse }

func (m memModel) read(op remora.Op, a remora.Addr) (byte, error) {
	seg := []remora.Seg{{Addr: a, Buf: make([]byte, 1)}}
	_, err := m.Transfer(context.Background(), op, seg)
	return seg[0].Buf[0], err
}

func (m memModel) write(op remora.Op, a remora.Addr, v byte) error {
	_, err := m.Transfer(context.Background(), op, []remora.Seg{{Addr: a, Buf: []byte{v}}})
	return err
}

type overlayModel struct {
	below   model
	changed map[remora.Addr]byte
}

func (m *overlayModel) read(op remora.Op, a remora.Addr) (byte, error) {
	v, err := m.below.read(op, a)
	if w, ok := m.changed[a]; ok {
		v = w
	}
	return v, err
}

func (m *overlayModel) write(op remora.Op, a remora.Addr, v byte) error {
	_, err := m.below.read(op&^remora.Write, a)
	if err == nil {
		m.changed[a] = v
	}
	return err
}

type spliceModel struct {
	parts  []Part
	models []model
}

func (m *spliceModel) find(a remora.Addr) (model, remora.Addr) {
	for i, p := range m.parts {
		if p.Contains(a) {
			return m.models[i], p.At + (a - p.Start)
		}
	}
	return nil, 0
}

func (m *spliceModel) read(op remora.Op, a remora.Addr) (byte, error) {
	if below, at := m.find(a); below != nil {
		return below.read(op, at)
	}
	return 0, remora.ErrUnmapped
}

func (m *spliceModel) write(op remora.Op, a remora.Addr, v byte) error {
	if below, at := m.find(a); below != nil {
		return below.write(op, at, v)
	}
	return remora.ErrUnmapped
}

// The addresses of the drawn spaces.
const (
	drawBase = 0x1000 - 16
	drawSize = 0x200
	drawPage = 16
)

// composition is a drawn Space, its model, and the layers in it with theirs.
type composition struct {
	layers []*Layer
	models []*overlayModel
}

func (c *composition) draw(t *rapid.T, depth int) (remora.Space, model) {
	kind := 0
	if depth > 0 {
		kind = rapid.IntRange(0, 6).Draw(t, "kind")
	}
	if kind == 0 {
		return drawSparse(t)
	}
	if kind <= 2 {
		return c.drawSplice(t, depth)
	}
	below, m := c.draw(t, depth-1)
	switch kind {
	case 3:
		l, lm := Overlay(below), &overlayModel{m, map[remora.Addr]byte{}}
		c.layers, c.models = append(c.layers, l), append(c.models, lm)
		return l, lm
	case 4:
		return ReadOnly(below), m
	case 5:
		return Cache(below, &CacheOptions{Bytes: 1, Live: true}), m
	}
	return Trace(below, func(Event) {}), m
}

// drawSparse draws pages of many kinds. The model is a copy of them.
func drawSparse(t *rapid.T) (remora.Space, model) {
	s := memtest.NewSparse(&memtest.SparseOptions{
		PageSize: drawPage,
		ReadOnly: rapid.IntRange(0, 5).Draw(t, "read-only") == 0,
		Refuse:   rapid.SampledFrom([]remora.Op{0, 0, 0, remora.StopAtFault, remora.Force}).Draw(t, "refuse"),
	})
	data := rapid.SliceOfN(rapid.Byte(), drawPage, drawPage).Draw(t, "data")
	for a := remora.Addr(drawBase); a < drawBase+drawSize; a += drawPage {
		o := memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}
		kind := rapid.IntRange(0, 12).Draw(t, "page")
		switch kind {
		case 0:
			continue // a hole
		case 1:
			o.Perm = 0
		case 2:
			o.Perm = remora.PermRead
		case 3:
			o.Fault = remora.ErrGuard
		}
		if err := s.Map(remora.Range{Start: a, Size: drawPage}, o); err != nil {
			t.Fatal(err)
		}
		data[0]++
		if kind >= 5 {
			s.Poke(data, a)
		}
		if kind == 6 {
			s.Inject(a+3, remora.Read, remora.ErrPoisoned)
			s.Inject(a+5, remora.Write, remora.ErrIO)
		}
	}
	return s, memModel{s.Clone()}
}

// drawSplice draws parts that may touch and share a space.
func (c *composition) drawSplice(t *rapid.T, depth int) (remora.Space, model) {
	m := &spliceModel{}
	a := remora.Addr(drawBase)
	for range rapid.IntRange(1, 5).Draw(t, "parts") {
		a += remora.Addr(rapid.SampledFrom([]int{0, 0, 0, 7, 16}).Draw(t, "gap"))
		p := Part{Range: remora.Range{Start: a, Size: uint64(rapid.IntRange(1, drawSize/3).Draw(t, "size"))}}
		p.At = remora.Addr(drawBase + rapid.IntRange(0, drawSize-1).Draw(t, "at"))
		if n := len(m.parts); n > 0 && rapid.Bool().Draw(t, "same") {
			p.Space = m.parts[n-1].Space
			m.models = append(m.models, m.models[n-1])
		} else {
			below, bm := c.draw(t, depth-1)
			p.Space = below
			m.models = append(m.models, bm)
		}
		m.parts = append(m.parts, p)
		a += remora.Addr(p.Size)
	}
	s, err := Splice(nil, m.parts...)
	if err != nil {
		t.Fatal(err)
	}
	return s, m
}

// naive gives what a call must come to, and makes it in the model.
func naive(m model, op remora.Op, segs []remora.Seg) {
	stopped := false
	for i := range segs {
		s := &segs[i]
		s.N, s.Err = 0, nil
		for s.N < len(s.Buf) && s.Err == nil {
			a := s.Addr + remora.Addr(s.N)
			switch {
			case stopped:
				s.Err = remora.ErrStopped
			case op&remora.Write != 0:
				s.Err = m.write(op&^remora.StopAtFault, a, s.Buf[s.N])
			default:
				s.Buf[s.N], s.Err = m.read(op&^remora.StopAtFault, a)
			}
			if s.Err == nil {
				s.N++
			}
		}
		stopped = stopped || s.Err != nil && op&remora.StopAtFault != 0
	}
}

func drawCall(t *rapid.T, info remora.Info) (remora.Op, []remora.Seg) {
	op := remora.Op(rapid.IntRange(0, int(remora.AllOps)).Draw(t, "op")) & (info.Ops | remora.Write)
	if !info.Writable {
		op &^= remora.Write
	}
	segs := make([]remora.Seg, rapid.IntRange(0, 6).Draw(t, "segs"))
	for i := range segs {
		segs[i].Addr = remora.Addr(drawBase + rapid.IntRange(-3, drawSize).Draw(t, "addr"))
		size := rapid.SampledFrom([]int{0, 1, 8, 20, 60, 200}).Draw(t, "len")
		segs[i].Buf = bytes.Repeat([]byte{rapid.Byte().Draw(t, "fill")}, size)
	}
	return op, segs
}

// Whatever is composed of what, it does what its parts would do byte by byte.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var c composition
		space, m := c.draw(t, 4)
		for range 6 {
			op, segs := drawCall(t, space.Info())
			want := make([]remora.Seg, len(segs))
			for i, s := range segs {
				want[i] = remora.Seg{Addr: s.Addr, Buf: bytes.Clone(s.Buf)}
			}
			naive(m, op, want)
			n, err := space.Transfer(t.Context(), op, segs)
			compareCall(t, op, segs, want, n, err)
		}
		for i, l := range c.layers {
			compareChanges(t, l, c.models[i])
		}
		for a := remora.Addr(drawBase - 1); a <= drawBase+drawSize; a++ {
			seg := []remora.Seg{{Addr: a, Buf: make([]byte, 1)}}
			space.Transfer(t.Context(), remora.Read, seg)
			if v, err := m.read(remora.Read, a); seg[0].Err != err || err == nil && seg[0].Buf[0] != v {
				t.Fatalf("at the end %v holds 0x%02x, %v, want 0x%02x, %v", a, seg[0].Buf[0], seg[0].Err, v, err)
			}
		}
	})
}

func compareCall(t *rapid.T, op remora.Op, got, want []remora.Seg, n int64, err error) {
	var sum int64
	var first error
	for i := range want {
		g, w := &got[i], &want[i]
		if g.N != w.N || !errors.Is(g.Err, w.Err) {
			t.Fatalf("%v: segment %d at %v of %d bytes: got %d, %v, want %d, %v", op, i, w.Addr, len(w.Buf), g.N, g.Err, w.N, w.Err)
		}
		if !bytes.Equal(g.Buf[:g.N], w.Buf[:w.N]) {
			t.Fatalf("%v: segment %d at %v: got %x, want %x", op, i, w.Addr, g.Buf[:g.N], w.Buf[:w.N])
		}
		sum += int64(w.N)
		if first == nil {
			first = w.Err
		}
	}
	if n != sum || !errors.Is(err, first) {
		t.Fatalf("%v: returned %d, %v, want %d, %v", op, n, err, sum, first)
	}
}

func compareChanges(t *rapid.T, l *Layer, m *overlayModel) {
	got := map[remora.Addr]bool{}
	ranges := l.Changes()
	for i, r := range ranges {
		if i > 0 && ranges[i-1].Last()+1 >= r.Start {
			t.Fatalf("changes %v and %v are not apart and in order", ranges[i-1], r)
		}
		for a := r.Start; r.Contains(a); a++ {
			got[a] = true
		}
	}
	for a := range m.changed {
		if !got[a] {
			t.Fatalf("changes %v do not hold %v", ranges, a)
		}
	}
	if len(got) != len(m.changed) {
		t.Fatalf("changes hold %d bytes, want %d", len(got), len(m.changed))
	}
}

// sorted says whether the parts of a splice are, whatever the order they came in.
func TestSpliceSortsAndLeavesOutEmptyParts(t *testing.T) {
	mem := Zero(remora.Range{Size: 100})
	parts := []Part{
		{Range: remora.Range{Start: 30, Size: 10}, Space: mem},
		{Range: remora.Range{Start: 10}, Space: mem},
		{Range: remora.Range{Start: 10, Size: 10}, Space: mem},
	}
	given := slices.Clone(parts)
	s, err := Splice(nil, parts...)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(parts, given) {
		t.Error("the caller's parts were changed")
	}
	segs := []remora.Seg{{Addr: 10, Buf: make([]byte, 30)}, {Addr: 35, Buf: make([]byte, 10)}}
	s.Transfer(t.Context(), remora.Read, segs)
	if segs[0].N != 10 || segs[1].N != 5 {
		t.Errorf("read %d and %d bytes, want 10 and 5", segs[0].N, segs[1].N)
	}
}
