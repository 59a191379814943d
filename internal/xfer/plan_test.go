// SPDX-License-Identifier: Apache-2.0

package xfer

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/remora-go/remora"
)

// table is a list of extents without gaps; beyond its end nothing is mapped.
type table struct {
	base remora.Addr
	list []remora.Extent
	asks int
}

func (m *table) Translate(_ context.Context, va remora.Addr) remora.Extent {
	m.asks++
	for i := range m.list {
		if e := run(m.list[i]); e.holds(va) {
			return m.list[i]
		}
	}
	return remora.Extent{Virt: va, Size: 1, Err: remora.ErrUnmapped}
}

const both = remora.PermRead | remora.PermWrite

// drawTable lays size bytes from base on over the spaces, in runs of up to longest.
func drawTable(t *rapid.T, base remora.Addr, size, longest int, spaces []*ram) *table {
	m := &table{base: base}
	for at := 0; at < size; {
		n := min(rapid.IntRange(1, longest).Draw(t, "size"), size-at)
		e := remora.Extent{Virt: base + remora.Addr(at), Size: uint64(n), Perm: both}
		switch rapid.IntRange(0, 19).Draw(t, "kind") {
		case 0:
			e.Err = rapid.SampledFrom(causes).Draw(t, "hole")
		case 1:
			e.Perm = remora.PermRead
		case 2, 3, 4, 5: // follows the run before it, so that the two merge
			if len(m.list) > 0 {
				p := m.list[len(m.list)-1]
				e.In, e.Phys = p.In, p.Phys+remora.Addr(p.Size)
				break
			}
			fallthrough
		default:
			r := spaces[rapid.IntRange(0, len(spaces)-1).Draw(t, "space")]
			e.Phys = r.base + remora.Addr(rapid.IntRange(-3, len(r.mem)).Draw(t, "phys"))
			if r != spaces[0] {
				e.In = r
			}
		}
		m.list = append(m.list, e)
		at += n
	}
	return m
}

// byteAt is the translation of one byte, spelled out.
func (m *table) byteAt(op remora.Op, spaces, models []*ram) func(remora.Addr) (*byte, error) {
	return func(a remora.Addr) (*byte, error) {
		e := m.Translate(context.Background(), a)
		if e.Err != nil {
			return nil, e.Err
		}
		if op&remora.Write != 0 && op&remora.Force == 0 && e.Perm&remora.PermWrite == 0 {
			return nil, remora.ErrProtected
		}
		for i, r := range spaces {
			if e.In == nil || e.In == r {
				return models[i].byteAt(e.Phys + (a - e.Virt))
			}
		}
		panic("unknown space")
	}
}

func checkPlan(t *rapid.T, size, longest, longestSeg int) {
	var spaces, models []*ram
	for _, name := range []string{"below", "swap", "zero"} {
		r, m := drawRAM(t, name, 150)
		spaces, models = append(spaces, r), append(models, m)
	}
	base := remora.Addr(rapid.SampledFrom([]uint64{0, 0x7000, -uint64(size)}).Draw(t, "virt"))
	tab := drawTable(t, base, size, longest, spaces)
	p := &Plan{Table: tab, Below: spaces[0]}
	for range 4 {
		op := drawOp(t) | rapid.SampledFrom([]remora.Op{0, remora.Force}).Draw(t, "force")
		segs := drawSegs(t, base, size, longestSeg)
		want := twin(segs)
		n, err := p.Transfer(t.Context(), op, segs)
		naive(op, want, tab.byteAt(op, spaces, models))
		same(t, op, segs, want, n, err)
		for i := range spaces {
			if !bytes.Equal(spaces[i].mem, models[i].mem) {
				t.Fatalf("%v: space %d differs", op, i)
			}
		}
	}
}

func TestPlanAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) { checkPlan(t, 300, 40, 150) })
}

// Runs so small that a segment does not fit into one window.
func TestPlanManyWindows(t *testing.T) {
	var list []remora.Extent
	below := &ram{name: "below", mem: make([]byte, 3*ChunkSegs), bad: map[int]error{2*ChunkSegs + 100: remora.ErrIO}}
	model := &ram{mem: bytes.Clone(below.mem), bad: below.bad}
	for i := range 3 * ChunkSegs { // neighbours change places, so nothing merges
		list = append(list, remora.Extent{Virt: remora.Addr(i), Phys: remora.Addr(i ^ 1), Size: 1, Perm: both})
	}
	tab := &indexed{list}
	p := &Plan{Table: tab, Below: below}
	for _, op := range []remora.Op{remora.Write, remora.Read, remora.Write | remora.StopAtFault, remora.StopAtFault} {
		segs := []remora.Seg{
			{Addr: 5, Buf: bytes.Repeat([]byte{1}, 3*ChunkSegs-5)},
			{Addr: 2*ChunkSegs + 110, Buf: bytes.Repeat([]byte{2}, 900)},
			{Addr: 2, Buf: []byte{3}},
			{Addr: 3*ChunkSegs - 1, Buf: []byte{4, 5}},
			{Addr: 0, Buf: bytes.Repeat([]byte{6}, ChunkSegs-3)},
		}
		want := twin(segs)
		n, err := p.Transfer(t.Context(), op, segs)
		naive(op, want, func(a remora.Addr) (*byte, error) {
			e := tab.Translate(context.Background(), a)
			if e.Err != nil {
				return nil, e.Err
			}
			return model.byteAt(e.Phys)
		})
		same(t, op, segs, want, n, err)
		if !bytes.Equal(below.mem, model.mem) {
			t.Fatalf("%v: the memory differs", op)
		}
	}
}

// indexed is a table of one-byte runs from 0 on.
type indexed struct{ list []remora.Extent }

func (x *indexed) Translate(_ context.Context, va remora.Addr) remora.Extent {
	if va < remora.Addr(len(x.list)) {
		return x.list[va]
	}
	return remora.Extent{Virt: va, Size: 1, Err: remora.ErrUnmapped}
}

// count is a lower space that counts its calls and segments.
type count struct {
	*ram
	calls, segs int
}

func (c *count) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	c.calls++
	c.segs += len(segs)
	return c.ram.Transfer(ctx, op, segs)
}

func TestPlanMergesAndBatches(t *testing.T) {
	below := &count{ram: &ram{mem: make([]byte, 100)}}
	tab := &table{list: []remora.Extent{
		{Virt: 0, Phys: 10, Size: 10, Perm: both},
		{Virt: 10, Phys: 20, Size: 10, Perm: both},
		{Virt: 20, Phys: 70, Size: 10, Perm: both},
	}}
	p := &Plan{Table: tab, Below: below}
	for _, c := range []struct {
		name        string
		op          remora.Op
		segs        []remora.Seg
		calls, down int
	}{
		{"adjacent runs are one piece", remora.Read, []remora.Seg{{Buf: make([]byte, 20)}}, 1, 1},
		{"reads travel together", remora.Read, []remora.Seg{{Buf: make([]byte, 30)}, {Addr: 15, Buf: make([]byte, 15)}}, 1, 4},
		{"writes in one piece travel together", remora.Write, []remora.Seg{{Buf: make([]byte, 20)}, {Addr: 20, Buf: make([]byte, 5)}}, 1, 2},
		{"a write in two pieces travels alone", remora.Write, []remora.Seg{{Buf: make([]byte, 5)}, {Buf: make([]byte, 30)}, {Buf: make([]byte, 5)}}, 3, 4},
	} {
		below.calls, below.segs = 0, 0
		if _, err := p.Transfer(t.Context(), c.op, c.segs); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if below.calls != c.calls || below.segs != c.down {
			t.Errorf("%s: %d calls with %d segments, want %d with %d", c.name, below.calls, below.segs, c.calls, c.down)
		}
	}
}

func TestPlanDoesNotMergeOverTheEnd(t *testing.T) {
	below := &ram{base: remora.MaxAddr, mem: []byte{1}}
	tab := &table{list: []remora.Extent{
		{Virt: 0, Phys: remora.MaxAddr, Size: 1, Perm: both},
		{Virt: 1, Phys: 0, Size: 1, Perm: both, In: &ram{mem: []byte{2}}},
	}}
	segs := []remora.Seg{{Buf: make([]byte, 2)}}
	if _, err := (&Plan{Table: tab, Below: below}).Transfer(t.Context(), remora.Read, segs); err != nil || segs[0].Buf[1] != 2 {
		t.Errorf("two spaces: %v", err)
	}
	tab.list[1].In = nil
	zero := &ram{base: remora.MaxAddr, mem: []byte{1, 2}} // its second byte is at address 0
	if _, err := (&Plan{Table: tab, Below: zero}).Transfer(t.Context(), remora.Read, segs); err != nil || segs[0].Buf[1] != 2 {
		t.Errorf("one space: %v", err)
	}
}

func TestPlanBadTable(t *testing.T) {
	below := &ram{mem: make([]byte, 10)}
	for _, e := range []remora.Extent{{}, {Virt: 5, Size: 5}, {Virt: 0, Size: 3}} {
		segs := []remora.Seg{{Addr: 4, Buf: make([]byte, 2)}}
		n, err := (&Plan{Table: fixed{e}, Below: below}).Transfer(t.Context(), remora.Read, segs)
		if n != 0 || err != remora.ErrCorrupt {
			t.Errorf("%+v: got %d, %v", e, n, err)
		}
	}
	segs := []remora.Seg{{Addr: 4, Buf: make([]byte, 2)}}
	n, err := (&Plan{Table: fixed{remora.Extent{Size: 9, Perm: both}}}).Transfer(t.Context(), remora.Read, segs)
	if n != 0 || err != remora.ErrUnmapped {
		t.Errorf("no space below: got %d, %v", n, err)
	}
}

type fixed struct{ e remora.Extent }

func (f fixed) Translate(context.Context, remora.Addr) remora.Extent { return f.e }

func TestPlanContext(t *testing.T) {
	const page = 1 << 12
	below := &ram{mem: make([]byte, page)}
	tab := fixed{remora.Extent{Size: page, Perm: both}}
	segs := make([]remora.Seg, 3*ChunkSegs)
	for i := range segs {
		segs[i] = remora.Seg{Addr: remora.Addr(i), Buf: make([]byte, 1)}
	}
	for looks := range 6 {
		for _, op := range []remora.Op{remora.Read, remora.Write, remora.StopAtFault} {
			ctx := &clock{Context: t.Context(), left: looks}
			n, err := (&Plan{Table: tab, Below: below}).Transfer(ctx, op, segs)
			if want := int64(looks / 2 * ChunkSegs); n != want || err != context.Canceled {
				t.Fatalf("%v, %d looks: got %d, %v; want %d", op, looks, n, err, want)
			}
			for i := range segs {
				done := int64(i) < n
				if (segs[i].Err == nil) != done || (segs[i].N == 1) != done || !done && segs[i].Err != context.Canceled {
					t.Fatalf("%v: segment %d: %d, %v", op, i, segs[i].N, segs[i].Err)
				}
			}
		}
	}
}

func TestPlanExplain(t *testing.T) {
	below := &ram{name: "physical", mem: make([]byte, 10)}
	tab := &table{list: []remora.Extent{{Virt: 0x100, Phys: 5, Size: 10, Perm: both}}}
	p := &Plan{Table: tab, Below: below}
	err := p.Explain(t.Context(), remora.Read, 0x107, remora.ErrNotSaved)
	var f *remora.Fault
	if !errors.As(err, &f) || f.Space != "physical" || f.Addr != 12 || !errors.Is(err, remora.ErrNotSaved) {
		t.Errorf("in the lower space: %v", err)
	}
	if err := p.Explain(t.Context(), remora.Read, 0x200, remora.ErrUnmapped); err != remora.ErrUnmapped {
		t.Errorf("hole: %v", err)
	}
	if err := p.Explain(t.Context(), remora.Read, 0x107, context.Canceled); err != context.Canceled {
		t.Errorf("no fault: %v", err)
	}
}

func TestPlanAllocates(t *testing.T) {
	below := &ram{mem: make([]byte, 100), bad: map[int]error{50: remora.ErrIO}}
	tab := &table{list: []remora.Extent{
		{Virt: 0, Phys: 10, Size: 10, Perm: both},
		{Virt: 10, Phys: 45, Size: 10, Perm: both},
	}}
	p := &Plan{Table: tab, Below: below}
	segs := []remora.Seg{{Buf: make([]byte, 20)}, {Addr: 5, Buf: make([]byte, 5)}, {Addr: 30, Buf: make([]byte, 1)}}
	for _, op := range []remora.Op{remora.Read, remora.Write} {
		allocs(t, func() { p.Transfer(t.Context(), op, segs) })
	}
}

func TestPlanPastTheLastAddress(t *testing.T) {
	const first = remora.MaxAddr - 9
	below := &ram{mem: make([]byte, 20)}
	tab := fixed{remora.Extent{Virt: first, Phys: 0, Size: 10, Perm: both}}
	segs := []remora.Seg{{Addr: first + 4, Buf: make([]byte, 7)}, {Addr: first, Buf: make([]byte, 10)}}
	n, err := (&Plan{Table: tab, Below: below}).Transfer(t.Context(), remora.Write, segs)
	if n != 16 || err != remora.ErrUnmapped || segs[0].N != 6 || segs[0].Err != err || segs[1].Err != nil {
		t.Errorf("got %d, %v; segments %d, %v and %d, %v", n, err, segs[0].N, segs[0].Err, segs[1].N, segs[1].Err)
	}
}

// A segment that came up short in one window must not be tried again in the next.
func TestPlanDoesNotTryAgain(t *testing.T) {
	list := make([]remora.Extent, 2*ChunkSegs)
	for i := range list {
		list[i] = remora.Extent{Virt: remora.Addr(i), Phys: remora.Addr(i ^ 1), Size: 1, Perm: both}
	}
	below := &count{ram: &ram{mem: make([]byte, len(list)), bad: map[int]error{7: remora.ErrIO}}}
	segs := []remora.Seg{{Buf: make([]byte, len(list))}}
	n, err := (&Plan{Table: &indexed{list}, Below: below}).Transfer(t.Context(), remora.Read, segs)
	if n != 6 || err != remora.ErrIO || below.calls != 1 {
		t.Errorf("got %d, %v after %d calls", n, err, below.calls)
	}
}

// heals is a table that fails once.
type heals struct {
	fixed
	asked bool
}

func (h *heals) Translate(ctx context.Context, a remora.Addr) remora.Extent {
	e := h.fixed.Translate(ctx, a)
	if !h.asked {
		h.asked, e.Err = true, remora.ErrIO
	}
	return e
}

func TestPlanKeepsNoHole(t *testing.T) {
	tab := &heals{fixed: fixed{remora.Extent{Size: 10, Perm: both}}}
	segs := []remora.Seg{{Buf: make([]byte, 1)}, {Buf: make([]byte, 1)}}
	n, err := (&Plan{Table: tab, Below: &ram{mem: make([]byte, 10)}}).Transfer(t.Context(), remora.Read, segs)
	if n != 1 || err != remora.ErrIO || segs[1].Err != nil {
		t.Errorf("got %d, %v; second segment %v", n, err, segs[1].Err)
	}
}

// plainRAM is a ram that honours no op bit.
type plainRAM struct{ *ram }

var _ remora.Space = plainRAM{}

func (r plainRAM) Info() remora.Info {
	info := r.ram.Info()
	info.Ops = 0
	return info
}

func (r plainRAM) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if err := r.gate.Admit(op, 0, true); err != nil {
		return Refuse(segs, err)
	}
	defer r.gate.Leave()
	return Each(ctx, op, segs, r.ram)
}

// A written segment in several pieces stops at its fault also where the space
// below does not honour StopAtFault.
func TestPlanOverASpaceWithoutStopAtFault(t *testing.T) {
	below := &ram{mem: make([]byte, 8), bad: map[int]error{2: remora.ErrIO}}
	list := []remora.Extent{{Size: 4, Phys: 4, Perm: both}, {Virt: 4, Size: 4, Perm: both}}
	p := &Plan{Table: &table{list: list}, Below: plainRAM{below}}
	segs := []remora.Seg{{Addr: 2, Buf: []byte{1, 2, 3, 4, 5, 6}}, {Addr: 7, Buf: []byte{7}}, {Buf: []byte{8, 9}}}
	n, err := p.Transfer(t.Context(), remora.Write, segs)
	if n != 4+1+2 || err != remora.ErrIO || segs[0].N != 4 || segs[0].Err != remora.ErrIO {
		t.Errorf("moved %d, %v; first segment %d, %v", n, err, segs[0].N, segs[0].Err)
	}
	if want := []byte{3, 4, 0, 7, 8, 9, 1, 2}; !bytes.Equal(below.mem, want) {
		t.Errorf("below holds %v, want %v", below.mem, want)
	}
}

// moving is a Translator that sends a page elsewhere once it has been read.
type moving struct {
	below *ram
	moves int
}

func (m *moving) Translate(_ context.Context, va remora.Addr) remora.Extent {
	e := remora.Extent{Virt: va &^ 15, Size: 16, Perm: remora.PermRead | remora.PermWrite}
	e.Phys = e.Virt + remora.Addr(64*(m.below.calls/2%2))
	if m.moves > 0 && m.below.calls >= m.moves {
		e.Phys = e.Virt + 64
	}
	return e
}

// What has moved while it was read is read again, from where it is.
func TestPlanOfWhatMoves(t *testing.T) {
	for _, live := range []bool{false, true} {
		low := &ram{name: "low", mem: make([]byte, 128)}
		copy(low.mem[64:], bytes.Repeat([]byte{7}, 64))
		p := &Plan{Table: &moving{low, 1}, Below: low, Live: live}
		segs := []remora.Seg{{Addr: 4, Buf: make([]byte, 8)}, {Addr: 32, Buf: make([]byte, 30)}}
		if n, err := p.Transfer(t.Context(), remora.Read, segs); n != 38 || err != nil {
			t.Fatal(n, err)
		}
		if got := segs[0].Buf[0] == 7 && segs[1].Buf[29] == 7; got != live {
			t.Errorf("live %v: it has read where it was: %v", live, !got)
		}
	}
	low := &ram{name: "low", mem: make([]byte, 128)}
	p := &Plan{Table: &moving{below: low}, Below: low, Live: true}
	segs := []remora.Seg{{Addr: 4, Buf: make([]byte, 8)}}
	if n, err := p.Transfer(t.Context(), remora.Read, segs); n != 8 || err != nil || low.calls > 2*maxTurns {
		t.Errorf("what never stands still: %d bytes by %d calls, %v", n, low.calls, err)
	}
}
