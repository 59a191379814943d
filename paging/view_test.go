// SPDX-License-Identifier: Apache-2.0

package paging

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/remora-go/remora"
)

// A write through a View to the very tables that translate it is seen by the next
// window and the next call, whatever was kept.
func TestWritesToTablesAreSeen(t *testing.T) {
	mem := newRAM()
	mem.set(0x1000, 0, 0x2067)
	mem.set(0x2000, 0, 0x3067)
	mem.set(0x3000, 0, 0x4067)
	mem.set(0x4000, 0, 0x4067) // the lowest table, as a page
	mem.set(0x4000, 1, 0x8067)
	mem.set(0x8000, 0, 8)
	mem.set(0x9000, 0, 9)
	ctx := context.Background()
	v := New(mem, NewTables(mem, x86(t, 4), 0x1000, nil), nil)
	m := remora.New(v)
	read := func(want uint64) {
		t.Helper()
		if got, err := m.Uint64(ctx, 0x1000); err != nil || got != want {
			t.Fatalf("%d, %v, want %d", got, err, want)
		}
	}
	read(8)
	before := mem.reads.Load()
	read(8)
	if n := mem.reads.Load() - before; n != 1 {
		t.Fatalf("%d transfers for what was translated before", n)
	}
	var entry [8]byte
	binary.LittleEndian.PutUint64(entry[:], 0x9067)
	if _, err := m.WriteAt(ctx, entry[:], 8); err != nil {
		t.Fatal(err)
	}
	read(9)
	mem.set(0x4000, 1, 0x8067) // past the View
	read(9)
	v.own.Cache().Drop()
	read(8)
	if _, err := m.WriteAt(ctx, []byte{7}, 0x1000); err != nil { // no table
		t.Fatal(err)
	}
	before = mem.reads.Load()
	read(7)
	if n := mem.reads.Load() - before; n != 1 {
		t.Fatalf("%d transfers after a write elsewhere", n)
	}
}

// A fault is told as it happened in physical memory, or as the tables have it.
func TestViewExplains(t *testing.T) {
	mem := newRAM()
	mem.set(0x1000, 0, 0x2067)
	mem.set(0x2000, 0, 0x3067)
	mem.set(0x3000, 0, 0x4067)
	mem.set(0x3000, 1, 0x5067)
	mem.set(0x4000, 0, 0x100067)
	mem.set(0x4000, 1, 0x07fffffffffffc0a)
	tables := NewTables(mem, x86(t, 4), 0x1000, nil)
	m := remora.New(New(mem, tables, &ViewOptions{Name: "task"}))
	for a, want := range map[remora.Addr]string{
		0x123:    "read task:0x123: read physical:0x100123: no memory at this address",
		0x1000:   "read task:0x1000: not present in memory: PTE at physical:0x4008 0x7fffffffffffc0a: swap: type 0, offset 0x1",
		0x200008: "read task:0x200008: page table missing: read physical:0x5000: no memory at this address: it would have the PTE of this address",
		1 << 50:  "read task:0x4000000000000: not mapped: not canonical for x86-64, 4 levels",
	} {
		if _, err := m.ReadAt(context.Background(), make([]byte, 1), a); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
	live := NewTables(mem, x86(t, 4), 0x1000, &Options{Live: true})
	e := live.Translate(context.Background(), 0x1000)
	mem.set(0x4000, 1, 0x8067)
	want := "not present in memory: mapped by now: PTE at physical:0x4008 0x8067: 0x8000 of rwxu"
	if err := live.Explain(context.Background(), remora.Read, 0x1000, e.Err); err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

// swapped is a Translator that knows where swapped pages are.
type swapped struct {
	*Tables
	area remora.Space
}

func (s *swapped) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	e := s.Tables.Translate(ctx, va)
	if d := s.Format().Decode(int(e.Level), e.Raw); e.Err == remora.ErrNotPresent && d.Kind == KindSwap {
		e.In, e.Phys, e.Perm, e.Err = s.area, remora.Addr(d.Offset*s.Format().PageSize()), remora.PermRead, nil
	}
	return e
}

func (s *swapped) Unwrap() any { return s.Tables }

// A Translator around Tables may know more than they do.
func TestViewOfAnotherTranslator(t *testing.T) {
	ctx := context.Background()
	mem, area := chain(), newRAM()
	mem.set(0x4000, 1, swapEntry(2, 7))
	mem.set(0x4000, 2, swapEntry(2, 8))
	area.set(0x7000, 0, 77)
	area.set(0x8000, 0, 88)
	tables := NewTables(mem, x86(t, 4), 0x1000, &Options{Half: Lower})
	v := New(mem, &swapped{tables, area}, nil)
	if in := v.Info(); in.Name != "physical@0x1000" || in.Last != 1<<47-1 || in.PtrSize != 8 || in.Granule != 4096 {
		t.Errorf("%+v", in)
	}
	for a, want := range map[remora.Addr]uint64{0x1000: 77, 0x2000: 88} {
		if got, err := remora.New(v).Uint64(ctx, a); err != nil || got != want {
			t.Errorf("%v: %d, %v", a, got, err)
		}
	}
	if e := v.Translate(ctx, 0x2fff); e.Virt != 0x1000 || e.Size != 0x2000 || e.In != area {
		t.Error(extentText(&e))
	}
	var got []remora.Region
	for r, err := range v.Regions(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	if len(got) != 1 || got[0].Range != (remora.Range{Size: 4096}) {
		t.Error(got)
	}
	if tables.Root() != 0x1000 || tables.Half() != Lower || tables.Half().String() != "lower half" {
		t.Error(tables.Root(), tables.Half())
	}
}

// alone is a Translator and nothing else.
type alone struct{ t *Tables }

func (a *alone) Translate(ctx context.Context, va remora.Addr) remora.Extent {
	return a.t.Translate(ctx, va)
}

// So it is with one that hides what it stands on; but then there is nothing to list.
func TestViewOfAnyTranslator(t *testing.T) {
	ctx := context.Background()
	mem := chain()
	v := New(mem, &alone{NewTables(mem, x86(t, 4), 0x1000, nil)}, nil)
	if in := v.Info(); in.Name != "physical@virtual" || in.Last != remora.MaxAddr {
		t.Errorf("%+v", in)
	}
	if _, err := remora.New(v).WriteAt(ctx, []byte{1}, 0); err != nil || mem.pages[8][0] != 1 {
		t.Error(err)
	}
	for r, err := range v.Regions(ctx) {
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Error(r, err)
		}
	}
	if err := v.Explain(ctx, remora.Read, 0x1000, remora.ErrUnmapped); err != error(remora.ErrUnmapped) {
		t.Error(err)
	}
}

// What has changed since it was met is told as it is now.
func TestExplainLooksAgain(t *testing.T) {
	ctx := context.Background()
	mem := chain()
	tables := NewTables(mem, x86(t, 4), 0x1000, &Options{Live: true})
	explain := func(c error) string { return tables.Explain(ctx, remora.Read, 0x1000, c).Error() }
	for _, row := range []struct{ got, want string }{
		{explain(remora.ErrNotPresent), "not present in memory: by now: PTE at physical:0x4008 0x0: empty"},
		{explain(context.Canceled), "context canceled"},
		{func() string {
			mem.faults = []fault{{0x4008, 0x4010, remora.ErrNotSaved}}
			return explain(remora.ErrNotPresent)
		}(), "not present in memory: by now: PTE at physical:0x4008: page table missing: read physical:0x4008: not saved in this dump"},
	} {
		if row.got != row.want {
			t.Errorf("%s\nwant %s", row.got, row.want)
		}
	}
}

// A View of a View: a process in a guest, whose memory is that of a process. Each
// level of a fault is told.
func TestViewsNest(t *testing.T) {
	ctx := context.Background()
	host := chain() // the guest's memory begins at 0x40000000 of a process
	f := x86(t, 4)
	host.set(0x2000, 1, 0x9067)
	host.set(0x9000, 0, 0xa067)
	for i := range 8 {
		host.set(0xa000, i, uint64(0x20000+i*0x1000)|0x67)
	}
	host.set(0x21000, 0, 0x2067) // guest physical 0x1000
	host.set(0x22000, 0, 0x3067)
	host.set(0x23000, 0, 0x4067)
	host.set(0x23000, 1, 0x5067)
	host.set(0x24000, 0, 0x6067)
	host.set(0x24000, 1, 0x7067)
	host.set(0x26000, 1, 42)
	process := New(host, NewTables(host, f, 0x1000, nil), &ViewOptions{Name: "process"})
	guest := New(&shifted{process, 0x40000000}, NewTables(&shifted{process, 0x40000000}, f, 0x1000, nil), &ViewOptions{Name: "task"})
	m := remora.New(guest)
	if v, err := m.Uint64(ctx, 8); v != 42 || err != nil {
		t.Error(v, err)
	}
	for a, want := range map[remora.Addr]string{
		0x1000:   "read task:0x1000: read guest:0x7000: read process:0x40007000: read physical:0x27000: no memory at this address",
		0x200000: "read task:0x200000: page table missing: read guest:0x5000: read process:0x40005000: read physical:0x25000: no memory at this address: it would have the PTE of this address",
	} {
		if _, err := m.Uint8(ctx, a); err == nil || err.Error() != want {
			t.Errorf("%v\nwant %s", err, want)
		}
	}
}

// shifted is a Space from an address on.
type shifted struct {
	below remora.Space
	by    remora.Addr
}

func (s *shifted) Info() remora.Info {
	in := s.below.Info()
	in.Name = "guest"
	return in
}

func (s *shifted) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	for i := range segs {
		segs[i].Addr += s.by
	}
	n, err := s.below.Transfer(ctx, op, segs)
	for i := range segs {
		segs[i].Addr -= s.by
	}
	return n, err
}

func (s *shifted) Explain(ctx context.Context, op remora.Op, a remora.Addr, c error) error {
	return &remora.Fault{Space: "process", Addr: a + s.by, Op: op, Err: s.below.(*View).Explain(ctx, op, a+s.by, c)}
}
