// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"errors"
	"io/fs"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

func TestReadOnlyRefusesWrites(t *testing.T) {
	below := mapped(t, &memtest.SparseOptions{Refuse: remora.Force}, remora.Range{Size: 0x1000})
	r := ReadOnly(below)
	if r.Info().Writable || !below.Info().Writable {
		t.Errorf("Writable is %t, and %t below", r.Info().Writable, below.Info().Writable)
	}
	write := func(op remora.Op) error {
		segs := []remora.Seg{{Buf: []byte{1}}}
		n, err := r.Transfer(t.Context(), op, segs)
		if n != 0 || segs[0].N != 0 || segs[0].Err != err {
			t.Errorf("%v: %d, %v; segment %d, %v", op, n, err, segs[0].N, segs[0].Err)
		}
		return err
	}
	if err := write(remora.Write); err != remora.ErrReadOnly || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("a write gives %v", err)
	}
	if err := write(remora.Write | remora.Force); err != errors.ErrUnsupported {
		t.Errorf("a write with a bit that is not honoured gives %v", err)
	}
	below.Close()
	if err := write(remora.Write); err != fs.ErrClosed {
		t.Errorf("a write to a closed space gives %v", err)
	}
}

// As must not reach the space below an opaque wrapper.
func TestOpaqueSpaces(t *testing.T) {
	below := mapped(t, nil, remora.Range{Size: 0x1000})
	window, err := Window(below, remora.Range{Size: 0x1000}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]remora.Space{
		"read-only": ReadOnly(below),
		"overlay":   Overlay(below),
		"window":    window,
		"traced":    Trace(Cache(ReadOnly(below), nil), func(Event) {}),
	} {
		if _, ok := remora.As[*memtest.Sparse](remora.New(s)); ok {
			t.Errorf("%s: As reaches the space below", name)
		}
		if _, ok := remora.As[remora.Mapper](s); ok {
			t.Errorf("%s: As finds a Mapper below", name)
		}
	}
	for name, s := range map[string]remora.Space{
		"trace": Trace(below, func(Event) {}),
		"cache": Cache(below, nil),
	} {
		if _, ok := remora.As[*memtest.Sparse](remora.New(s)); !ok {
			t.Errorf("%s: As does not reach the space below", name)
		}
	}
}

func TestTraceSeesEveryCall(t *testing.T) {
	var seen []Event
	below := mapped(t, nil, remora.Range{Size: 0x1000})
	s := Trace(below, func(e Event) { seen = append(seen, e) })
	segs := []remora.Seg{{Addr: 0xffe, Buf: make([]byte, 4)}, {Addr: 0, Buf: make([]byte, 1)}}
	for _, op := range []remora.Op{remora.Read, remora.Write | remora.StopAtFault, 1 << 31} {
		moved, err := s.Transfer(t.Context(), op, segs)
		e := seen[len(seen)-1]
		if e.Op != op || e.Moved != moved || e.Err != err || &e.Segs[0] != &segs[0] || len(e.Segs) != 2 {
			t.Errorf("%v: %d, %v was seen as %+v", op, moved, err, e)
		}
	}
	if len(seen) != 3 || seen[0].Moved != 3 || seen[1].Err != remora.ErrUnmapped || seen[2].Err != errors.ErrUnsupported {
		t.Errorf("saw %+v", seen)
	}
}
