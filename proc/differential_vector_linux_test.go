// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/remora-go/remora"
)

// diffWay is a way into the child.
type diffWay struct {
	name string
	o    Options
	ends bool // with a context that can end, and so a thread beside
}

var diffWays = [...]diffWay{
	{name: "vm", o: Options{Door: DoorVM}},
	{name: "vm, aside", o: Options{Door: DoorVM}, ends: true},
	{name: "mem", o: Options{Door: DoorMem}},
	{name: "mem, aside", o: Options{Door: DoorMem}, ends: true},
	{name: "shared", o: Options{Door: DoorVM, MapShared: true}},
	{name: "shared, aside", o: Options{Door: DoorVM, MapShared: true}, ends: true},
	{name: "parallel", o: Options{Door: DoorVM, Parallel: 2}},
	{name: "ptrace", o: Options{Door: DoorPtrace}},
}

const (
	diffVM = iota
	diffVMAside
	diffMem
	diffMemAside
	diffShared
	diffSharedAside
	diffParallel
	diffPtrace
)

// diffWayFor chooses a way: mostly the first. The parallel one is for where there
// is enough memory side by side.
func diffWayFor(rnd *rand.Rand, l *diffLayout) int {
	n := rnd.IntN(1000)
	switch {
	case l.large && n < 400:
		return diffParallel
	case n < 600:
		return diffVM
	case n < 720:
		return diffVMAside
	case n < 840:
		return diffMem
	case n < 870:
		return diffMemAside
	case n < 950:
		return diffShared
	case n < 975:
		return diffSharedAside
	}
	return diffPtrace
}

// diffOps are the valid operations. Of those that are not, one is asked for too:
// what is present, to be written, which a process refuses whole.
var diffOps = [...]remora.Op{
	remora.Read,
	remora.Read | remora.StopAtFault,
	remora.Read | remora.Force,
	remora.Read | remora.Force | remora.StopAtFault,
	remora.Read | remora.Resident,
	remora.Read | remora.Resident | remora.StopAtFault,
	remora.Read | remora.Resident | remora.Force,
	remora.Read | remora.Resident | remora.Force | remora.StopAtFault,
	remora.Write,
	remora.Write | remora.StopAtFault,
	remora.Write | remora.Force,
	remora.Write | remora.Force | remora.StopAtFault,
}

const (
	diffMaxSegs  = 1100
	diffMaxBytes = 4 << 20
	diffArena    = 16 << 20 // bytes; more than any vector holds
)

// diffVector is one call, and its results in the child (got) and in the model (want).
type diffVector struct {
	way       int
	op        int // of diffOps, or -1 for the refused one
	got, want []remora.Seg
}

func (v *diffVector) bits() remora.Op {
	if v.op < 0 {
		return remora.Write | remora.Resident
	}
	return diffOps[v.op]
}

// diffGen makes random vectors.
type diffGen struct {
	rnd    *rand.Rand
	lay    *diffLayout
	noise  []byte // to write
	arenas [2][]byte
	v      diffVector
	hot    remora.Addr // a page that many segments of this vector are on, or 0
	big    bool        // many segments of this vector are large, so that it takes several batches
}

// canary lies behind each buffer that is read into.
const canary = 0x5a

// next makes a vector of 1 to 1,100 segments of 0 to 1 MiB, or longer ones for the
// way that shares them out. Its
// buffers are valid until the next one.
func (g *diffGen) next() *diffVector {
	v := &g.v
	v.way, v.op = diffWayFor(g.rnd, g.lay), g.rnd.IntN(len(diffOps))
	if v.way == diffParallel {
		v.op &= 1 // the others are not shared out
	} else if g.rnd.IntN(256) == 0 {
		v.op = -1
	}
	g.hot = 0
	if g.rnd.IntN(3) == 0 {
		g.hot = g.lay.Start + remora.Addr(g.rnd.Uint64N(g.lay.Size)&^(g.lay.page-1))
	}
	v.got, v.want = v.got[:0], v.want[:0]
	total, longest, count := 0, 1<<20, g.count(v.way)
	if count == 1 && v.op > 0 && g.rnd.IntN(2) == 0 {
		v.op = 0 // one plain read has ways of its own
	}
	g.big = v.way != diffPtrace && g.lay.pieces[g.lay.longest].Size > 1<<20 && g.rnd.IntN(8) == 0
	for len(v.got) < count {
		n := min(g.length(), longest)
		switch {
		case v.way == diffPtrace:
			n %= 400
		case v.way == diffParallel && len(v.got) < 2:
			n = bulkMin + g.rnd.IntN(1<<18)
		case total+n > diffMaxBytes:
			longest = 256 // so that the number of segments does not depend on their lengths
			n = min(n, longest)
		}
		a := g.address(n)
		v.got = append(v.got, remora.Seg{Addr: a, Buf: g.buffer(0, total, n)})
		v.want = append(v.want, remora.Seg{Addr: a, Buf: g.buffer(1, total, n)})
		total += n + 1
	}
	return v
}

// buffer gives a buffer to read into, or one of noise to write from.
func (g *diffGen) buffer(arena, at, n int) []byte {
	if g.v.bits()&remora.Write != 0 {
		if arena == 1 { // the same bytes as for got
			return g.v.got[len(g.v.got)-1].Buf
		}
		at = g.rnd.IntN(len(g.noise) - n)
		return g.noise[at : at+n : at+n]
	}
	g.arenas[arena][at+n] = canary
	return g.arenas[arena][at : at+n : at+n]
}

// count chooses how many segments a vector has: 1 to 1,100.
func (g *diffGen) count(way int) int {
	switch way {
	case diffPtrace:
		return 1 + g.rnd.IntN(10) // each stops and starts every thread
	case diffParallel:
		return 4 + g.rnd.IntN(20)
	}
	switch n := g.rnd.IntN(1000); {
	case n < 100:
		return 1
	case n < 450:
		return 1 + g.rnd.IntN(8)
	case n < 880:
		return 9 + g.rnd.IntN(56)
	case n < 980:
		return 65 + g.rnd.IntN(136)
	}
	return 201 + g.rnd.IntN(diffMaxSegs-200)
}

// length chooses how many bytes a segment has: 0 to 1 MiB.
func (g *diffGen) length() int {
	switch n := g.rnd.IntN(1000); {
	case n < 30:
		return 0
	case g.big && n < 300:
		return 1<<16 + g.rnd.IntN(1<<20-1<<16+1)
	case n < 400:
		return 1 + g.rnd.IntN(16)
	case n < 750:
		return 17 + g.rnd.IntN(240)
	case n < 930:
		return 257 + g.rnd.IntN(3840)
	case n < 994:
		return 4097 + g.rnd.IntN(15*4096)
	}
	return 1<<16 + g.rnd.IntN(1<<20-1<<16+1)
}

// address chooses where n bytes are moved.
func (g *diffGen) address(n int) remora.Addr {
	rnd, l := g.rnd, g.lay
	if g.hot != 0 && rnd.IntN(3) > 0 && n < 1<<16 {
		return g.hot + remora.Addr(rnd.Uint64N(l.page))
	}
	i := rnd.IntN(1000)
	p := &l.pieces[rnd.IntN(len(l.pieces))]
	switch {
	case n >= 1<<16 && i%8 > 0:
		if p = &l.pieces[l.longest]; p.Size > uint64(n) {
			return p.Start + remora.Addr(rnd.Uint64N(p.Size-uint64(n)+1))
		}
	case i < 400:
		p = g.edge()
	}
	size := p.Size
	page := p.Start + remora.Addr(rnd.Uint64N(size)&^(l.page-1))
	end := p.Start + remora.Addr(size)
	switch {
	case i < 300 && n > 0: // so that the end of the piece lies inside
		return end - 1 - remora.Addr(rnd.IntN(min(n, int(size))))
	case i < 330:
		return end - 1
	case i < 400: // up to that end
		return end - remora.Addr(n)
	case i < 560:
		return p.Start + remora.Addr(rnd.Uint64N(size))
	case i < 640: // a page's last byte
		return page + remora.Addr(l.page) - 1
	case i < 720:
		return page
	case i < 950:
		return page + remora.Addr(rnd.Uint64N(l.page))
	case i < 970:
		return l.Start - remora.Addr(rnd.Uint64N(2*l.page))
	case i < 985 && len(l.device) > 0:
		d := l.device[rnd.IntN(len(l.device))]
		return d.Start + remora.Addr(rnd.Uint64N(d.Size))
	}
	near := remora.Addr(rnd.Uint64N(2 * l.page))
	return [...]remora.Addr{near, remora.MaxAddr - near, remora.MaxAddr - remora.Addr(n), 1<<63 + near, 1<<63 - near, 1<<63 - remora.Addr(n)/2,
		0xffff_8000_0000_0000 + near}[rnd.IntN(7)]
}

// edge gives a piece that can be accessed and has one behind it that cannot, if a
// few tries find one.
func (g *diffGen) edge() *diffPiece {
	pieces := g.lay.pieces
	i := 0
	for range 8 {
		i = g.rnd.IntN(len(pieces))
		if g.open(&pieces[i]) && (i+1 == len(pieces) || !g.open(&pieces[i+1])) {
			break
		}
	}
	return &pieces[i]
}

// open says whether the protection of a piece lets the operation through.
func (g *diffGen) open(p *diffPiece) bool {
	k, op := &diffKinds[p.kind], g.v.bits()
	need := remora.PermRead
	if op&remora.Write != 0 {
		need = remora.PermWrite
	}
	return k.Fault == 0 && (k.Perm&need != 0 || op&remora.Force != 0)
}

// compare holds the results of the child against those of the model.
func (v *diffVector) compare(sum, wantSum int64, err, wantErr error) error {
	if v.op < 0 {
		return v.refused(sum, err)
	}
	read := v.bits()&remora.Write == 0
	for i := range v.got {
		got, want := &v.got[i], &v.want[i]
		switch {
		case got.N != want.N:
			return fmt.Errorf("segment %d: %d bytes (%v), want %d (%v)", i, got.N, got.Err, want.N, want.Err)
		case !sameCause(got.Err, want.Err):
			return fmt.Errorf("segment %d: after %d bytes: %v, want %v", i, got.N, got.Err, want.Err)
		case !read:
		case !bytes.Equal(got.Buf[:got.N], want.Buf[:got.N]):
			at := 0
			for got.Buf[at] == want.Buf[at] {
				at++
			}
			return fmt.Errorf("segment %d: byte %d is 0x%02x, want 0x%02x", i, at, got.Buf[at], want.Buf[at])
		}
	}
	if sum != wantSum || !sameCause(err, wantErr) {
		return fmt.Errorf("the call: %d bytes, %v, want %d, %v", sum, err, wantSum, wantErr)
	}
	return nil
}

// sameCause: the model knows every cause but that of memory which nobody else can
// reach, for which no system has a name.
func sameCause(got, want error) bool {
	if want == remora.ErrFault {
		return errors.Is(got, remora.ErrFault)
	}
	return got == want
}

// refused holds a call that must be refused whole.
func (v *diffVector) refused(sum int64, err error) error {
	for i := range v.got {
		if s := &v.got[i]; s.N != 0 || len(s.Buf) > 0 && !errors.Is(s.Err, errors.ErrUnsupported) {
			return fmt.Errorf("segment %d of a call to be refused: %d bytes, %v", i, s.N, s.Err)
		}
	}
	if sum != 0 || !errors.Is(err, errors.ErrUnsupported) {
		return fmt.Errorf("a call to be refused: %d bytes, %v", sum, err)
	}
	return nil
}

// canaries says whether a byte behind a buffer was changed.
func (g *diffGen) canaries() error {
	if g.v.bits()&remora.Write != 0 {
		return nil
	}
	at := 0
	for i := range g.v.got {
		at += len(g.v.got[i].Buf)
		if g.arenas[0][at] != canary {
			return fmt.Errorf("segment %d: the byte behind its buffer was changed", i)
		}
		at++
	}
	return nil
}

// describe tells the vector.
func (v *diffVector) describe(l *diffLayout) string {
	text := fmt.Sprintf("%v by %s, %d segments", v.bits(), diffWays[v.way].name, len(v.got))
	told := 0
	for i := range v.got {
		s, w := &v.got[i], &v.want[i]
		if told >= 8 || len(v.got) > 8 && s.N == w.N && sameCause(s.Err, w.Err) {
			continue
		}
		told++
		at := s.Addr + remora.Addr(s.N)
		text += fmt.Sprintf("\n  %d: %v+%d (%s), stops at %v (%s)", i, s.Addr, len(s.Buf), diffRowName(l.row(s.Addr)), at, diffRowName(l.row(at)))
	}
	return text
}

// call makes the call in the model and in the child.
func (v *diffVector) call(ctx context.Context, p *Process, l *diffLayout) error {
	op := v.bits()
	var wantSum int64
	var wantErr error
	if v.op >= 0 {
		wantSum, wantErr = l.model.Transfer(ctx, op, v.want)
	}
	sum, err := p.Memory().Transfer(ctx, op, v.got)
	return v.compare(sum, wantSum, err, wantErr)
}
