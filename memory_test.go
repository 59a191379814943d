// SPDX-License-Identifier: Apache-2.0

package remora_test

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

const rw = remora.PermRead | remora.PermWrite

// space gives pages with data from start on.
func space(t *testing.T, o *memtest.SparseOptions, start remora.Addr, data []byte) *memtest.Sparse {
	t.Helper()
	s := memtest.NewSparse(o)
	size := uint64(len(data)+0xfff) &^ 0xfff
	if err := s.Map(remora.Range{Start: start, Size: size}, memtest.MapOptions{Perm: rw}); err != nil {
		t.Fatal(err)
	}
	if err := s.Poke(data, start); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestScalars(t *testing.T) {
	data := make([]byte, 0x1000)
	copy(data[0x11:], []byte{0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88})
	for _, row := range []struct {
		big bool
		ptr uint8
		u8  uint8
		u16 uint16
		u32 uint32
		u64 uint64
		a   remora.Addr
	}{
		{false, 8, 0x81, 0x8281, 0x84838281, 0x8887868584838281, 0x8887868584838281},
		{false, 4, 0x81, 0x8281, 0x84838281, 0x8887868584838281, 0x84838281},
		{true, 8, 0x81, 0x8182, 0x81828384, 0x8182838485868788, 0x8182838485868788},
		{true, 4, 0x81, 0x8182, 0x81828384, 0x8182838485868788, 0x81828384},
	} {
		m := space(t, &memtest.SparseOptions{BigEndian: row.big, PtrSize: row.ptr}, 0x1000, data).Memory()
		ctx, at := t.Context(), remora.Addr(0x1011)
		u8, err1 := m.Uint8(ctx, at)
		u16, err2 := m.Uint16(ctx, at)
		u32, err3 := m.Uint32(ctx, at)
		u64, err4 := m.Uint64(ctx, at)
		a, err5 := m.Addr(ctx, at)
		if err := errors.Join(err1, err2, err3, err4, err5); err != nil {
			t.Error(err)
		}
		if u8 != row.u8 || u16 != row.u16 || u32 != row.u32 || u64 != row.u64 || a != row.a {
			t.Errorf("big-endian %t, pointers of %d bytes: read 0x%x 0x%x 0x%x 0x%x %v, want 0x%x 0x%x 0x%x 0x%x %v",
				row.big, row.ptr, u8, u16, u32, u64, a, row.u8, row.u16, row.u32, row.u64, row.a)
		}
	}
}

func TestScalarOverAHole(t *testing.T) {
	data := make([]byte, 0x1000)
	data[0xfff] = 9
	m := space(t, &memtest.SparseOptions{Name: "mem"}, 0x1000, data).Memory()
	if v, err := m.Uint8(t.Context(), 0x1fff); v != 9 || err != nil {
		t.Errorf("the last byte: %d, %v", v, err)
	}
	v, err := m.Uint32(t.Context(), 0x1ffd)
	if want := "read mem:0x2000: not mapped"; v != 0 || err == nil || err.Error() != want {
		t.Errorf("read %d, %v, want 0, %s", v, err, want)
	}
	var f *remora.Fault
	if !errors.As(err, &f) || f.Addr != 0x2000 || f.Past || f.Err != remora.ErrUnmapped {
		t.Errorf("the error is %+v", f)
	}
}

// noPointers is a Space that does not know the size of a pointer.
type noPointers struct{ remora.Space }

var _ remora.Space = noPointers{}

func (s noPointers) Info() remora.Info {
	info := s.Space.Info()
	info.PtrSize = 0
	return info
}

func TestPointerOfUnknownSize(t *testing.T) {
	m := remora.New(noPointers{space(t, nil, 0, make([]byte, 8))})
	if a, err := m.Addr(t.Context(), 0); err == nil {
		t.Errorf("read %v", a)
	}
}

func TestReadPastTheLastAddress(t *testing.T) {
	s := space(t, &memtest.SparseOptions{Name: "mem"}, 0, make([]byte, 0x1000))
	if err := s.Map(remora.Range{Start: remora.MaxAddr - 0xfff, Size: 0x1000}, memtest.MapOptions{Perm: rw}); err != nil {
		t.Fatal(err)
	}
	n, err := s.Memory().WriteAt(t.Context(), make([]byte, 9), remora.MaxAddr-4)
	if want := "write mem: past the last address: not mapped"; n != 5 || err == nil || err.Error() != want {
		t.Errorf("wrote %d, %v, want 5, %s", n, err, want)
	}
}

func TestVectorsReportInEachSegment(t *testing.T) {
	s := space(t, &memtest.SparseOptions{Name: "mem"}, 0x1000, []byte("memory"))
	m := s.Memory()
	segs := []remora.Seg{{Addr: 0x1000, Buf: make([]byte, 6)}, {Addr: 0x1ffe, Buf: make([]byte, 4)}, {Addr: 0, Buf: make([]byte, 1)}}
	n, err := m.ReadV(t.Context(), segs)
	if n != 8 || err != remora.ErrUnmapped || string(segs[0].Buf) != "memory" || segs[1].N != 2 || segs[2].Err != remora.ErrUnmapped {
		t.Errorf("read %d, %v: %+v", n, err, segs)
	}
	if got, want := remora.FirstFault(t.Context(), m, remora.Read, segs), "read mem:0x2000: not mapped"; got == nil || got.Error() != want {
		t.Errorf("the first fault is %v, want %s", got, want)
	}
	if got := remora.FirstFault(t.Context(), m, remora.Read, segs[:1]); got != nil {
		t.Errorf("the first fault of a complete segment is %v", got)
	}
	if n, err := m.WriteV(t.Context(), segs[:1]); n != 6 || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
}

// explained is a Space that has more to say.
type explained struct{ remora.Space }

var _ remora.Space = explained{}

func (explained) Explain(_ context.Context, op remora.Op, a remora.Addr, c error) error {
	return &remora.Fault{Space: "below", Op: op, Addr: a + 0x1000, Err: c}
}

func TestFaultsAreExplained(t *testing.T) {
	m := remora.New(explained{space(t, &memtest.SparseOptions{Name: "mem"}, 0, make([]byte, 8))})
	_, err := m.ReadAt(t.Context(), make([]byte, 16), 0xff8)
	if want := "read mem:0x1000: read below:0x2000: not mapped"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = m.ReadAt(ctx, make([]byte, 16), 0xff8)
	if want := "read mem:0xff8: context canceled"; err == nil || err.Error() != want || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestCString(t *testing.T) {
	const top = remora.MaxAddr - 0xfff
	long := strings.Repeat("0123456789", 100)
	data := make([]byte, 0x2000)
	copy(data, long)                  // at 0x1000
	copy(data[0x1ffc:], "end\x00")    // against the hole at 0x3000
	copy(data[0x1f00:], "\x00x")      // an empty string
	copy(data[0x1e00:], "ab\xff\x00") // bytes, not UTF-8
	s := space(t, &memtest.SparseOptions{Name: "mem"}, 0x1000, data)
	for _, p := range []struct {
		a    remora.Addr
		last byte
	}{{0, 'b'}, {0x5000, 'x'}, {top, 'y'}} {
		if err := s.Map(remora.Range{Start: p.a, Size: 0x1000}, memtest.MapOptions{Perm: rw}); err != nil {
			t.Fatal(err)
		}
		if err := s.Poke([]byte(strings.Repeat(string(p.last), 0x1000)), p.a); err != nil {
			t.Fatal(err)
		}
	}
	for _, row := range []struct {
		name  string
		a     remora.Addr
		limit int
		want  string
		err   error
		text  string // of the error
	}{
		{name: "short", a: 0x2ffc, limit: 10, want: "end"},
		{name: "as long as the limit, with its end", a: 0x2ffc, limit: 4, want: "end"},
		{name: "longer than the limit by its end", a: 0x2ffc, limit: 3, want: "end", err: bufio.ErrTooLong},
		{name: "empty", a: 0x2f00, limit: 1, want: ""},
		{name: "limit 0", a: 0x2f00, limit: 0, want: "", err: bufio.ErrTooLong},
		{name: "bytes", a: 0x2e00, limit: 100, want: "ab\xff"},
		{name: "in several chunks", a: 0x1000, limit: 5000, want: long},
		{name: "too long, in several chunks", a: 0x1000, limit: 999, want: long[:999], err: bufio.ErrTooLong},
		{name: "into a hole", a: 0x5ff0, limit: 100, want: strings.Repeat("x", 16), err: remora.ErrUnmapped, text: "read mem:0x6000: not mapped"},
		{name: "no longer than up to the hole", a: 0x5ff0, limit: 16, want: strings.Repeat("x", 16), err: bufio.ErrTooLong},
		{name: "a hole between chunks", a: 0x6000 - 256, limit: 5000, want: strings.Repeat("x", 256), err: remora.ErrUnmapped},
		{name: "in a hole", a: 0x8000, limit: 100, want: "", err: remora.ErrUnmapped},
		{name: "past the last address", a: remora.MaxAddr - 9, limit: 100, want: strings.Repeat("y", 10), err: remora.ErrUnmapped, text: "read mem: past the last address: not mapped"},
		{name: "past the last address between chunks", a: remora.MaxAddr - 255, limit: 1000, want: strings.Repeat("y", 256), err: remora.ErrUnmapped, text: "read mem: past the last address: not mapped"},
	} {
		t.Run(row.name, func(t *testing.T) {
			got, err := s.Memory().CString(t.Context(), row.a, row.limit)
			if got != row.want || !errors.Is(err, row.err) || row.err == nil && err != nil {
				t.Errorf("%q, %v, want %q, %v", got, err, row.want, row.err)
			}
			if row.text != "" && err != nil && err.Error() != row.text {
				t.Errorf("error %v, want %s", err, row.text)
			}
		})
	}
}

func TestWith(t *testing.T) {
	s := space(t, &memtest.SparseOptions{Refuse: remora.Resident}, 0x1000, []byte{1, 2, 3})
	if err := s.Protect(remora.Range{Start: 0x1000, Size: 0x1000}, 0); err != nil {
		t.Fatal(err)
	}
	m := s.Memory()
	ctx := t.Context()
	if _, err := m.Uint8(ctx, 0x1001); !errors.Is(err, remora.ErrProtected) {
		t.Errorf("without bits: %v", err)
	}
	forced := m.With(remora.Force)
	if v, err := forced.Uint8(ctx, 0x1001); v != 2 || err != nil {
		t.Errorf("with Force: %d, %v", v, err)
	}
	if _, err := m.With(remora.Resident).Uint8(ctx, 0x1001); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("with a bit that is not honoured: %v", err)
	}
	if m.Bits() != 0 || forced.With(remora.StopAtFault|remora.Write).Bits() != remora.Force|remora.StopAtFault {
		t.Errorf("Bits gives %v and %v", m.Bits(), forced.With(remora.StopAtFault|remora.Write).Bits())
	}
	stop := forced.With(remora.StopAtFault) // added to the bits it has
	segs := []remora.Seg{{Addr: 0x1000, Buf: make([]byte, 1)}, {Addr: 0, Buf: make([]byte, 1)}, {Addr: 0x1000, Buf: make([]byte, 1)}}
	if n, err := stop.ReadV(ctx, segs); n != 1 || err != remora.ErrUnmapped || segs[2].Err != remora.ErrStopped {
		t.Errorf("with StopAtFault: %d, %v, %v", n, err, segs[2].Err)
	}
	writes := forced.With(remora.Write) // Write is not a bit to add
	if v, err := writes.Uint8(ctx, 0x1002); v != 3 || err != nil {
		t.Errorf("with Write: a read gives %d, %v", v, err)
	}
	if _, err := m.Uint8(ctx, 0x1001); !errors.Is(err, remora.ErrProtected) {
		t.Errorf("With changed the Memory it was asked of: %v", err)
	}
}

func TestNewGivesAMemoryItself(t *testing.T) {
	s := space(t, nil, 0, make([]byte, 8))
	m := remora.New(s)
	if remora.New(m) != m {
		t.Error("a Memory was wrapped once more")
	}
	if got, ok := remora.As[*memtest.Sparse](m); !ok || got != s {
		t.Error("As does not reach the Space of a Memory")
	}
	if m.Info() != s.Info() {
		t.Errorf("Info is %+v, want %+v", m.Info(), s.Info())
	}
	s.Close()
	if _, err := m.Uint8(t.Context(), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestScalarsAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("not measured: sync.Pool drops items at random under the race detector")
		return
	}
	m := space(t, &memtest.SparseOptions{BigEndian: true}, 0x1000, make([]byte, 0x100)).Memory()
	ctx, buf := t.Context(), make([]byte, 32)
	forced := m.With(remora.Force)
	for name, call := range map[string]func() error{
		"Uint8":   func() error { _, err := m.Uint8(ctx, 0x1000); return err },
		"Uint16":  func() error { _, err := m.Uint16(ctx, 0x1000); return err },
		"Uint32":  func() error { _, err := m.Uint32(ctx, 0x1000); return err },
		"Uint64":  func() error { _, err := m.Uint64(ctx, 0x1000); return err },
		"Addr":    func() error { _, err := m.Addr(ctx, 0x1000); return err },
		"ReadAt":  func() error { _, err := m.ReadAt(ctx, buf, 0x1000); return err },
		"WriteAt": func() error { _, err := m.WriteAt(ctx, buf, 0x1000); return err },
		"With":    func() error { _, err := forced.Uint64(ctx, 0x1000); return err },
	} {
		var failed error
		if n := testing.AllocsPerRun(1000, func() { failed = errors.Join(failed, call()) }); n != 0 || failed != nil {
			t.Errorf("%s: %v allocations a call, %v", name, n, failed)
		}
	}
}
