// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/testneed"
)

// contexts are one that cannot end and one that can: other ways through the package.
func contexts(t testing.TB) map[string]context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	return map[string]context.Context{"endless": context.Background(), "can end": ctx}
}

// Addresses at every border of the numbers that hold them are faults like others.
func TestAddressesAtTheBorders(t *testing.T) {
	s := specimentest.Start(t, nil)
	r := mapped(t, s, specimen.Touched, 1)
	var borders []remora.Addr
	for _, bit := range []int{0, 12, 31, 32, 47, 48, 55, 56, 57, 63} {
		a := remora.Addr(1) << bit
		borders = append(borders, a, -a, a-1, a+1, ^a)
	}
	borders = append(borders, 0xffffffffff600000) // vsyscall
	for _, d := range doors() {
		p := openProcess(t, s.Pid(), &Options{Door: d, Write: true})
		for name, ctx := range contexts(t) {
			for _, op := range []remora.Op{remora.Read, remora.Write, remora.Force, remora.Write | remora.Force, remora.Resident} {
				for _, a := range borders {
					for _, n := range []int{1, 2, 8, 4096, 5000} {
						segs := []remora.Seg{{Addr: a, Buf: make([]byte, n)}, {Addr: r.Start, Buf: make([]byte, 8)}}
						if op&remora.Write != 0 {
							copy(segs[1].Buf, s.Contents(specimen.Touched, r))
						}
						sum, err := p.Memory().Transfer(ctx, op, segs)
						if sum != 8 || !errors.Is(err, remora.ErrFault) || segs[0].Err != err || segs[1].Err != nil {
							t.Fatalf("%v, %s, %v of %v+%d: %d, %v", d, name, op, a, n, sum, err)
						}
						past := uint64(a)+uint64(n)-1 < uint64(a)
						if past && int64(a) < -1<<12 && err != remora.ErrUnmapped {
							t.Errorf("%v, %s, %v of %v+%d: %v", d, name, op, a, n, err)
						}
					}
				}
			}
		}
		holds(t, p, s, specimen.Touched, r)
	}
}

// A Buf of a tebibyte is no reason to take memory, time, or more of the target than
// there is.
func TestSegmentOfATebibyte(t *testing.T) {
	if strconv.IntSize == 32 {
		return // cannot be asked for
	}
	size := 1 << (strconv.IntSize/2 + 8)
	huge, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		testneed.Lacks(t, "no tebibyte of addresses: "+err.Error())
	}
	defer unix.Munmap(huge)
	s := specimentest.Start(t, nil)
	areas := layOut(t, s, specimen.Piece{Kind: specimen.Touched, Pages: 3}, specimen.Piece{Kind: specimen.Hole, Pages: 1})
	r := areas[0].Range
	want := s.Contents(specimen.Touched, r)
	for _, o := range []Options{{Door: DoorVM}, {Door: DoorVM, Parallel: 2}, {Door: DoorMem}, {Door: DoorPtrace}} {
		o.Write = true
		p := openProcess(t, s.Pid(), &o)
		for name, ctx := range contexts(t) {
			for _, op := range []remora.Op{remora.Read, remora.Resident, remora.Force, remora.Write} {
				if op == remora.Read {
					clear(huge[:r.Size])
				}
				segs := []remora.Seg{{Addr: r.Start + 5, Buf: huge[5:]}, {Addr: r.Start, Buf: make([]byte, 5)}}
				if op == remora.Write {
					copy(segs[1].Buf, want)
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				n, err := p.Memory().Transfer(ctx, op, segs)
				runtime.ReadMemStats(&after)
				if n != int64(r.Size) || err != remora.ErrUnmapped || segs[0].N != int(r.Size)-5 {
					t.Errorf("%v, %s, %v: %d, %v", o, name, op, n, err)
				}
				if !bytes.Equal(huge[5:r.Size], want[5:]) || !bytes.Equal(segs[1].Buf, want[:5]) {
					t.Errorf("%v, %s, %v: other bytes than it holds", o, name, op)
				}
				if took := after.TotalAlloc - before.TotalAlloc; took > 64<<20 {
					t.Errorf("%v, %s, %v: %d bytes were allocated", o, name, op, took)
				}
			}
		}
		holds(t, p, s, specimen.Touched, r)
	}
}

// A million ranges in one call, a third of them with faults.
func TestAMillionRanges(t *testing.T) {
	count := 1 << 20
	if raceEnabled {
		count >>= 3
	}
	s := specimentest.Start(t, nil)
	var pieces []specimen.Piece
	for range 10 {
		pieces = append(pieces, specimen.Piece{Kind: specimen.Touched, Pages: 20}, specimen.Piece{Kind: specimen.Hole, Pages: 1},
			specimen.Piece{Kind: specimen.ReadOnly, Pages: 2}, specimen.Piece{Kind: specimen.NoAccess, Pages: 1})
	}
	areas := layOut(t, s, pieces...)
	whole := remora.Between(areas[0].Start, areas[len(areas)-1].Last()+1)
	content := make([]byte, whole.Size)
	causes := make([]error, whole.Size/uint64(pageSize)) // by page
	for _, it := range areas {
		copy(content[it.Start-whole.Start:], s.Contents(it.kind, it.Range))
		for a := it.Start; it.Contains(a); a += remora.Addr(pageSize) {
			i := int(a-whole.Start) / pageSize
			switch it.kind {
			case specimen.Hole:
				causes[i] = remora.ErrUnmapped
			case specimen.NoAccess:
				causes[i] = remora.ErrProtected
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	segs, bufs := make([]remora.Seg, count), make([]byte, 8*count)
	for i := range segs {
		segs[i].Buf = bufs[8*i:][:4+i%5]
		segs[i].Addr = whole.Start + remora.Addr(rnd.Uint64N(whole.Size-8))
		if i%1000 == 0 { // empty, and where nothing could be
			segs[i] = remora.Seg{Addr: remora.MaxAddr}
		}
	}
	for _, row := range []struct {
		name string
		ctx  context.Context
		o    Options
		n    int
	}{
		{"process_vm", context.Background(), Options{Door: DoorVM}, count},
		{"process_vm, context", contexts(t)["can end"], Options{Door: DoorVM}, count / 8},
		{"proc-mem", context.Background(), Options{Door: DoorMem}, count / 8},
		{"ptrace", context.Background(), Options{Door: DoorPtrace}, count / 128},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := openProcess(t, s.Pid(), &row.o)
			segs := segs[:row.n]
			clear(bufs)
			got, _ := p.Memory().Transfer(row.ctx, remora.Read, segs)
			var sum int64
			for i := range segs {
				sum += int64(segs[i].N)
				if err := judge(&segs[i], whole.Start, content, causes); err != nil {
					t.Fatalf("segment %d: %v", i, err)
				}
			}
			if sum != got {
				t.Errorf("returned %d, the sum of N is %d", got, sum)
			}
		})
	}
}

// judge says what is wrong with one small segment.
func judge(seg *remora.Seg, base remora.Addr, content []byte, causes []error) error {
	n, cause := 0, error(nil)
	for n < len(seg.Buf) {
		at := int(seg.Addr-base) + n
		if cause = causes[at/pageSize]; cause != nil {
			break
		}
		n = min(len(seg.Buf), n+pageSize-at%pageSize)
	}
	if seg.N != n || seg.Err != cause {
		return fmt.Errorf("%v+%d: %d, %v, want %d, %v", seg.Addr, len(seg.Buf), seg.N, seg.Err, n, cause)
	}
	if n > 0 && !bytes.Equal(seg.Buf[:n], content[seg.Addr-base:][:n]) {
		return fmt.Errorf("%v+%d: %x, want %x", seg.Addr, len(seg.Buf), seg.Buf[:n], content[seg.Addr-base:][:n])
	}
	return nil
}

// Readers and writers side by side through one handle, of every door, with the
// handle closed under them: what was counted was moved.
func TestManyCallersAndClose(t *testing.T) {
	s := specimentest.Start(t, nil)
	const lanes = 4
	areas := layOut(t, s, specimen.Piece{Kind: specimen.Touched, Pages: lanes}, specimen.Piece{Kind: specimen.Hole, Pages: 1})
	for _, d := range doors() {
		for name, ctx := range contexts(t) {
			t.Run(fmt.Sprint(d, " ", name), func(t *testing.T) {
				if err := s.Poke(make([]byte, areas[0].Size), areas[0].Start); err != nil {
					t.Fatal(err)
				}
				p := openProcess(t, s.Pid(), &Options{Door: d, Write: true})
				done := make(chan uint64, lanes)
				for lane := range lanes {
					a := areas[0].Start + remora.Addr(lane*pageSize)
					go func() { done <- countUp(ctx, t, p, a, areas[1].Start) }()
				}
				// The target itself is asked: it runs between the stops of the ptrace door.
				await(t, "every lane has written", func() bool {
					var b [8]byte
					for lane := range lanes {
						if err := s.Peek(b[:], areas[0].Start+remora.Addr(lane*pageSize)); err != nil {
							t.Fatal(err)
						}
						if n := binary.LittleEndian.Uint64(b[:]); n < 20 {
							return false
						}
					}
					return true
				})
				if err := p.Close(); err != nil {
					t.Fatal(err)
				}
				last := make(map[uint64]int)
				for range lanes {
					last[<-done]++
				}
				seen := make(map[uint64]int)
				for lane := range lanes {
					var b [8]byte
					if err := s.Peek(b[:], areas[0].Start+remora.Addr(lane*pageSize)); err != nil {
						t.Fatal(err)
					}
					seen[binary.LittleEndian.Uint64(b[:])]++
				}
				if fmt.Sprint(last) != fmt.Sprint(seen) || last[0] > 0 {
					t.Errorf("the last numbers that were written are %v, the target has %v", last, seen)
				}
			})
		}
	}
}

// countUp writes 1, 2, 3 at a until the handle is closed, reads each back, and gives
// the last number that was written.
func countUp(ctx context.Context, t *testing.T, p *Process, a, hole remora.Addr) (last uint64) {
	var in, out [8]byte
	for n := uint64(1); ; n++ {
		binary.LittleEndian.PutUint64(in[:], n)
		segs := []remora.Seg{{Addr: a, Buf: in[:]}, {Addr: hole, Buf: make([]byte, 3)}}
		switch _, err := p.Memory().Transfer(ctx, remora.Write, segs); {
		case segs[0].Err != nil && err != nil && errors.Is(err, fs.ErrClosed):
			return last
		case err != remora.ErrUnmapped || segs[0].N != 8 || segs[1].N != 0:
			t.Errorf("write %d: %v, %+v", n, err, segs)
			return 0
		}
		last = n
		switch _, err := p.Memory().ReadAt(ctx, out[:], a); {
		case errors.Is(err, fs.ErrClosed):
			return last
		case err != nil || out != in:
			t.Errorf("read %d: %v, %x", n, err, out)
			return 0
		}
	}
}
