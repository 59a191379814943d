// SPDX-License-Identifier: Apache-2.0

package guest_test

import (
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/guest"
	"github.com/remora-go/remora/internal/rsp/rsptest"
	"github.com/remora-go/remora/memtest"
)

const stubPage = 4096

// stubFill gives bytes that tell where they are.
func stubFill(n int, seed byte) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)*seed + byte(i>>8) + byte(i>>16)
	}
	return b
}

// A machine, a process and a probe: each with a run that is longer than what is looked at
// between two looks at the context, and with memory up to the last address.
const (
	stubLarge = 3<<20 + 2*stubPage
	stubLow   = 0x100000
	stubTop   = 1<<64 - 2*stubPage
)

// stubAreas lays out memory that is there, and holes behind it.
func stubAreas(cause remora.Cause) (areas []memtest.Area, memory []rsptest.Area) {
	for _, r := range []remora.Range{{Start: stubLow, Size: stubLarge}, {Start: 0x8000000, Size: 2 * stubPage}, {Start: stubTop, Size: 2 * stubPage}} {
		data := stubFill(int(r.Size), byte(r.Start>>20)|1)
		areas = append(areas, memtest.Area{Range: r, Data: append([]byte(nil), data...)})
		memory = append(memory, rsptest.Area{Start: uint64(r.Start), Data: data})
		if end := r.Last() + 1; end != 0 {
			areas = append(areas, memtest.Area{Range: remora.Range{Start: end, Size: 2 * stubPage}, Fault: memtest.Always(cause)})
		}
	}
	return areas, memory
}

// stubWant is what all memory behind stubs claims.
func stubWant(ops remora.Op) memtest.Want {
	return memtest.Want{
		Info: remora.Info{Ops: remora.StopAtFault | remora.Force | ops, PtrSize: 8, Granule: stubPage, Last: remora.MaxAddr, Writable: true},
		Part: 1,
		Lacks: memtest.Lacks{
			Local:  "a stub is at the other end of a connection",
			Forced: "there is no protection",
		},
	}
}

// dialled opens the stub for writing.
func dialled(t testing.TB, s *rsptest.Stub) *guest.Stub {
	t.Helper()
	s.Objects = map[string]string{"features:target.xml": "<target><architecture>i386:x86-64</architecture></target>"}
	g, err := guest.OpenStub(t.Context(), s.Start(t), &guest.StubOptions{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return g
}

func TestStubPhysicalSpace(t *testing.T) {
	want := stubWant(remora.Resident)
	want.Lacks.Absent = "there is no paging"
	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
		areas, memory := stubAreas(remora.ErrHole)
		s := &rsptest.Stub{QEMU: true, PacketSize: 64 << 10, Physical: memory}
		var ram []remora.Range
		for _, a := range areas {
			if a.Data != nil {
				ram = append(ram, a.Range)
			}
		}
		m := dialled(t, s).PhysicalAt(&guest.StubRAM{Ranges: ram, How: "the test"})
		return memtest.Fixture{
			Space: m, Areas: areas, Close: m.Close,
			Peek: func(p []byte, a remora.Addr) error { return s.Peek(p, uint64(a), true) },
		}
	}, want)
}

// stubMaps are the regions of the process of TestStubProcessSpace.
const stubMaps = `00100000-00402000 rw-p 00000000 00:00 0
00402000-00404000 ---p 00000000 00:00 0
00404000-00406000 r--p 00000000 00:00 0  [vdso]
00406000-00408000 r--p 00000000 00:00 0  [vvar]
`

func TestStubProcessSpace(t *testing.T) {
	want := stubWant(0)
	want.Lacks.Forced = ""
	want.Lacks.Top = "a process has no memory there"
	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
		at := func(start, size uint64) remora.Range { return remora.Range{Start: remora.Addr(start), Size: size} }
		areas := []memtest.Area{
			{Range: at(0x100000, 0x302000), Data: stubFill(0x302000, 3)},
			{Range: at(0x402000, 0x2000), Data: stubFill(0x2000, 5), Fault: memtest.Guarded(0)},
			{Range: at(0x404000, 0x2000), Data: stubFill(0x2000, 7), Fault: memtest.Guarded(remora.PermRead)},
			{Range: at(0x406000, 0x2000), Fault: func(op remora.Op) []error {
				if op&remora.Write != 0 && op&remora.Force == 0 {
					return []error{remora.ErrProtected}
				}
				return []error{remora.ErrFault}
			}},
			{Range: at(0x408000, 0x2000), Fault: memtest.Always(remora.ErrUnmapped)},
		}
		s := &rsptest.Stub{NoAck: true, PacketSize: 64 << 10, Offers: "qXfer:auxv:read+", Files: map[string]string{"/proc/1/maps": stubMaps}}
		for _, a := range areas[:3] {
			s.Virtual = append(s.Virtual, rsptest.Area{Start: uint64(a.Start), Data: append([]byte(nil), a.Data...)})
		}
		m := dialled(t, s).Process(parseMaps)
		return memtest.Fixture{
			Space: m, Areas: areas, Close: m.Close,
			Peek: func(p []byte, a remora.Addr) error { return s.Peek(p, uint64(a), false) },
		}
	}, want)
}
