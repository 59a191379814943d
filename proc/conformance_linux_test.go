// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/memtest"
)

// area is memory of a specimen.
type area struct {
	remora.Range
	kind specimen.Kind
}

// bench is a specimen with what is needed to see its memory without this package.
type bench struct {
	*specimen.Specimen
	mem     *os.File
	pagemap *os.File
	areas   []area
	known   []memtest.Area
	old     bool // the system cannot tell guard pages
}

func newBench(t testing.TB) *bench {
	b := &bench{Specimen: specimentest.Start(t, nil)}
	for name, f := range map[string]**os.File{"mem": &b.mem, "pagemap": &b.pagemap} {
		var err error
		if *f, err = os.Open(procFile(b.Pid(), name)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*f).Close() })
	}
	return b
}

var pageSize = os.Getpagesize()

// present says whether the page table has the page of a.
func (b *bench) present(a remora.Addr) (bool, error) {
	var entry [8]byte
	if _, err := b.pagemap.ReadAt(entry[:], int64(uint64(a)/uint64(pageSize)*8)); err != nil {
		return false, err
	}
	return binary.NativeEndian.Uint64(entry[:])>>63 == 1, nil
}

// peek looks at the memory and makes no page present that is not: what such a page
// would hold is known.
func (b *bench) peek(p []byte, a remora.Addr) error {
	for len(p) > 0 {
		n := min(len(p), pageSize-int(uint64(a)%uint64(pageSize)))
		there, err := b.present(a)
		if err != nil {
			return err
		}
		if there {
			_, err = b.mem.ReadAt(p[:n], int64(a))
		} else {
			copy(p[:n], b.atFirst(a))
		}
		if err != nil {
			return err
		}
		p, a = p[n:], a+remora.Addr(n)
	}
	return nil
}

// atFirst gives what lies from a to the end of its area before anybody writes there.
func (b *bench) atFirst(a remora.Addr) []byte {
	for _, it := range b.areas {
		if it.Contains(a) {
			return b.Contents(it.kind, it.Range)[a-it.Start:]
		}
	}
	return nil
}

// fate is what a kind of memory answers: the rules R35-R44 and R66, in words of
// their own.
func fate(k specimen.Kind) func(remora.Op) []error {
	perm, shared, absent := remora.PermRead|remora.PermWrite, false, false
	var always error
	switch k {
	case specimen.Hole:
		return memtest.Always(remora.ErrUnmapped)
	case specimen.NoAccess:
		perm = 0
	case specimen.Reserved:
		perm, absent = 0, true
	case specimen.ReadOnly:
		perm = remora.PermRead
	case specimen.WriteOnly:
		perm = remora.PermWrite
	case specimen.ExecOnly:
		perm = remora.PermExec
	case specimen.Text:
		perm = remora.PermRead | remora.PermExec
	case specimen.SharedReadOnly:
		perm, shared = remora.PermRead, true
	case specimen.Untouched, specimen.UnreadFile:
		absent = true
	case specimen.Guard:
		always = remora.ErrGuard
	case specimen.FileEnd:
		always = remora.ErrBeyondEOF
	case specimen.Secret:
		always = remora.ErrFault
	}
	return func(op remora.Op) []error {
		need := remora.PermRead
		if op&remora.Write != 0 {
			need = remora.PermWrite
		}
		forced := op&remora.Force != 0 && !(shared && op&remora.Write != 0)
		switch {
		case perm&need == 0 && !forced:
			return []error{remora.ErrProtected}
		case always != nil:
			return []error{always}
		case absent && op&remora.Resident != 0:
			return []error{remora.ErrNotPresent}
		}
		return nil
	}
}

// layOut maps pieces anew and says what the contract suite may expect of them: the
// same each time.
func (b *bench) layOut(t testing.TB, pieces []specimen.Piece) []memtest.Area {
	if err := b.Reset(); err != nil {
		t.Fatal(err)
	}
	areas := layOut(t, b.Specimen, pieces...)
	if !slices.Equal(areas, b.areas) {
		b.areas = areas
		b.known = b.describe()
	}
	return b.known
}

func (b *bench) describe() []memtest.Area {
	out := []memtest.Area{
		{Range: remora.Range{Size: 1 << 12}, Fault: memtest.Always(remora.ErrUnmapped)},
		{Range: remora.Between(1<<63-1<<12, 1<<63+1<<12), Fault: memtest.Always(remora.ErrUnmapped)},
		{Range: remora.Between(remora.MaxAddr-1<<12+1, 0), Fault: memtest.Always(remora.ErrUnmapped)},
	}
	for _, it := range b.areas {
		r, data := it.Range, b.Contents(it.kind, it.Range)
		switch it.kind {
		case specimen.FileEnd:
			out = append(out, memtest.Area{Range: remora.Range{Start: r.Start, Size: uint64(len(data))}, Data: data})
			r.Start, r.Size, data = r.Start+remora.Addr(len(data)), r.Size-uint64(len(data)), nil
		case specimen.Secret:
			data = nil
		}
		kind := it.kind
		if kind == specimen.Guard && b.old {
			kind = specimen.Secret // a fault of an unknown cause
		}
		out = append(out, memtest.Area{Range: r, Data: data, Fault: fate(kind)})
	}
	return out
}

// everyKind is memory of every kind, alone and side by side, with a run of
// that many bytes among it.
func everyKind(run int) []specimen.Piece {
	pages := func(k specimen.Kind, n int) specimen.Piece { return specimen.Piece{Kind: k, Pages: n} }
	return []specimen.Piece{
		pages(specimen.Huge, run/pageSize), pages(specimen.Hole, 2),
		pages(specimen.Touched, 3), pages(specimen.Hole, 1), pages(specimen.Touched, 1), pages(specimen.NoAccess, 2),
		pages(specimen.Touched, 2), pages(specimen.ReadOnly, 2), pages(specimen.WriteOnly, 1), pages(specimen.ExecOnly, 1),
		pages(specimen.Text, 2), pages(specimen.SharedFile, 2), pages(specimen.SharedReadOnly, 2), pages(specimen.Hole, 1),
		pages(specimen.PrivateFile, 2), pages(specimen.SharedMemory, 2), pages(specimen.FileEnd, 3), pages(specimen.Touched, 1),
		pages(specimen.Guard, 1), pages(specimen.Untouched, 2), pages(specimen.ZeroPage, 2), pages(specimen.Reserved, 1),
		pages(specimen.UnreadFile, 2), pages(specimen.Locked, 1), pages(specimen.Secret, 1), pages(specimen.Hole, 1),
	}
}

// TestSpaceOfAProcess holds each door against the contract, over memory of every kind.
// Only the first is tried to the full, and only where that is quick.
func TestSpaceOfAProcess(t *testing.T) {
	first := uint64(0)
	if raceEnabled || strconv.IntSize == 32 || runtime.GOMAXPROCS(0) == 1 {
		first = 6
	}
	const large, small = 4<<20 + 1<<16, 1 << 16 // bytes of one run; from 4 MiB on, threads share
	for _, row := range []struct {
		name string
		o    Options
		run  int
		part uint64
		old  bool // without what kernels before 6.7 and 6.11 have not
	}{
		{"process_vm", Options{Door: DoorVM}, large, first, false},
		{"process_vm, two threads", Options{Door: DoorVM, Parallel: 2}, large, 1, false},
		{"process_vm, unchecked", Options{Door: DoorVM, Unchecked: true}, small, 2, false},
		{"process_vm, following", Options{Door: DoorVM, FollowExec: true}, small, 3, false},
		{"process_vm, shared mappings", Options{Door: DoorVM, MapShared: true}, small, 6, false},
		{"proc-mem", Options{Door: DoorMem}, small, 4, false},
		{"ptrace", Options{Door: DoorPtrace}, 2 * pageSize, 5, false},
		{"process_vm, older kernel", Options{Door: DoorVM}, small, 7, true},
		{"proc-mem, older kernel", Options{Door: DoorMem}, small, 8, true},
	} {
		t.Run(row.name, func(t *testing.T) { testSpace(t, row.o, row.run, row.part, row.old) })
	}
}

func testSpace(t *testing.T, o Options, run int, part uint64, old bool) {
	o.Write = true
	lacks := memtest.Lacks{Top: "no process has memory there"}
	chunk := 0
	if run < 3<<20 {
		lacks.Large = "another door has it; a chunk is the same here"
	}
	if o.Door == DoorPtrace {
		lacks.Large, chunk = "3 MiB take long, eight bytes at a time", tracedMax
	}
	if old {
		lacks.Local = "thousands of faults take long where each reads the whole map; see TestOlderKernelsAllocateNothing"
	}
	b := newBench(t)
	b.old = old
	var before *Process
	memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
		if before != nil { // a write in doubt must not hit what comes now
			await(t, "the calls that were left behind end", func() bool { return before.calls.stuck() == 0 })
		}
		areas := b.layOut(t, everyKind(run))
		p, err := Open(b.Pid(), &o)
		if err != nil {
			t.Fatal(err)
		}
		if old {
			older(p)
		}
		if o.Door == DoorPtrace && strings.HasSuffix(t.Name(), "rule12_no_allocation") {
			// Thousands of stops would take long. That they allocate nothing is tested beside.
			if _, err := p.Pause(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		before = p
		return memtest.Fixture{Space: p.Memory(), Areas: areas, Peek: b.peek, Close: p.Close}
	}, memtest.Want{
		Info: remora.Info{
			Ops:     remora.StopAtFault | remora.Force | remora.Resident,
			PtrSize: strconv.IntSize / 8, BigEndian: bigEndian, Granule: uint32(pageSize),
			Last: remora.MaxAddr, Writable: true, Live: true,
		},
		Part: part, Chunk: chunk, Lacks: lacks,
	})
}

func TestOlderKernelsAllocateNothing(t *testing.T) {
	if raceEnabled {
		return // sync.Pool drops items then
	}
	s := specimentest.Start(t, nil)
	areas := layOut(t, s, specimen.Piece{Kind: specimen.Touched, Pages: 1}, specimen.Piece{Kind: specimen.NoAccess, Pages: 1}, specimen.Piece{Kind: specimen.Untouched, Pages: 1})
	for _, d := range []Door{DoorVM, DoorMem} {
		p := openProcess(t, s.Pid(), &Options{Door: d})
		older(p)
		var segs []remora.Seg
		for _, it := range areas {
			segs = append(segs, remora.Seg{Addr: it.Last(), Buf: make([]byte, 2)})
		}
		calls := func() {
			_, _ = p.Memory().Transfer(context.Background(), remora.Read, segs)
			_, _ = p.Memory().Transfer(context.Background(), remora.Resident, segs)
		}
		if n := testing.AllocsPerRun(100, calls); n != 0 {
			t.Errorf("%v: two calls made %v allocations", d, n)
		}
	}
}
