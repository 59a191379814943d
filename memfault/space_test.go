// SPDX-License-Identifier: Apache-2.0

package memfault_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memfault"
	"github.com/remora-go/remora/memtest"
)

// memory gives 16 KiB at 0x1000 that hold a pattern, and nothing around them.
func memory(t testing.TB, rules string) (*memtest.Sparse, *memfault.Space) {
	t.Helper()
	s := memtest.NewSparse(nil)
	r := remora.Range{Start: 0x1000, Size: 0x4000}
	if err := s.Map(r, memtest.MapOptions{Perm: remora.PermRead | remora.PermWrite}); err != nil {
		t.Fatal(err)
	}
	if err := s.Poke(pattern(int(r.Size)), r.Start); err != nil {
		t.Fatal(err)
	}
	space, err := memfault.New(s, rules)
	if err != nil {
		t.Fatal(err)
	}
	return s, space
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

// results makes one call of segments at 0x1000, each of 10 bytes, and tells what
// each came to.
func results(ctx context.Context, s remora.Space, op remora.Op, n int) string {
	segs := make([]remora.Seg, n)
	for i := range segs {
		segs[i] = remora.Seg{Addr: 0x1000 + remora.Addr(i)*16, Buf: make([]byte, 10)}
	}
	sum, err := s.Transfer(ctx, op, segs)
	out := fmt.Sprintf("%d %v:", sum, err)
	for i := range segs {
		if segs[i].Err == nil {
			out += fmt.Sprintf(" %d", segs[i].N)
		} else {
			out += fmt.Sprintf(" %d(%v)", segs[i].N, segs[i].Err)
		}
	}
	return out
}

func TestTurns(t *testing.T) {
	for _, test := range []struct {
		rules string
		op    remora.Op
		want  [2]string // of two calls of four segments
	}{
		{"every 3rd short", remora.Read, [2]string{"35 input/output error: 10 10 5(input/output error) 10", "35 input/output error: 10 5(input/output error) 10 10"}},
		{"every 3 write short busy", remora.Read, [2]string{"40 <nil>: 10 10 10 10", "40 <nil>: 10 10 10 10"}},
		{"every 3 write short busy", remora.Write, [2]string{
			"35 too many calls are stuck in the system: 10 10 5(too many calls are stuck in the system) 10",
			"35 too many calls are stuck in the system: 10 5(too many calls are stuck in the system) 10 10"}},
		{"every 4th read poisoned", remora.Read, [2]string{
			"30 memory failure reported by hardware: 10 10 10 0(memory failure reported by hardware)",
			"30 memory failure reported by hardware: 10 10 10 0(memory failure reported by hardware)"}},
		{"every 2nd io", remora.Read | remora.StopAtFault, [2]string{
			"10 input/output error: 10 0(input/output error) 0(not attempted after an earlier fault) 0(not attempted after an earlier fault)",
			"10 input/output error: 10 0(input/output error) 0(not attempted after an earlier fault) 0(not attempted after an earlier fault)"}},
		{"every 1st short; read 0x1002 guard", remora.Read, [2]string{
			"17 guard page: 2(guard page) 5(input/output error) 5(input/output error) 5(input/output error)",
			"17 guard page: 2(guard page) 5(input/output error) 5(input/output error) 5(input/output error)"}},
		{"gone after 1", remora.Read, [2]string{"40 <nil>: 10 10 10 10",
			"0 the target is gone: 0(the target is gone) 0(the target is gone) 0(the target is gone) 0(the target is gone)"}},
		{"gone after 5; gone after 0", remora.Read | remora.StopAtFault, [2]string{
			"0 the target is gone: 0(the target is gone) 0(not attempted after an earlier fault) 0(not attempted after an earlier fault) 0(not attempted after an earlier fault)",
			"0 the target is gone: 0(the target is gone) 0(not attempted after an earlier fault) 0(not attempted after an earlier fault) 0(not attempted after an earlier fault)"}},
		{"read 0x1010-0x101f io; any 0x1015 guard; read 0x1010 hole", remora.Read, [2]string{
			"30 input/output error: 10 0(input/output error) 10 10", "30 input/output error: 10 0(input/output error) 10 10"}},
	} {
		_, space := memory(t, test.rules)
		for call, want := range test.want {
			// A call that has nothing to move counts for nothing.
			if sum, err := space.Transfer(context.Background(), test.op, []remora.Seg{{Addr: 0x1000}}); sum != 0 || err != nil {
				t.Errorf("%q: an empty segment gives %d, %v", test.rules, sum, err)
			}
			if got := results(context.Background(), space, test.op, 4); got != want {
				t.Errorf("%q, %v, call %d:\n got %s\nwant %s", test.rules, test.op, call, got, want)
			}
		}
	}
}

// TestTurnsMoveWhatTheyCount: random calls under rules that count, against the
// Space below by itself: what is counted was moved, and nothing else.
func TestTurnsMoveWhatTheyCount(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 1))
	below, space := memory(t, "every 7th short; every 5th write io; every 11th read short busy; any 0x2345-0x2349 corrupt")
	shadow := below.Clone()
	short := 0
	for range 1000 {
		op := remora.Op(rnd.IntN(2)) | remora.StopAtFault*remora.Op(rnd.IntN(2))
		segs := make([]remora.Seg, rnd.IntN(9))
		for i := range segs {
			segs[i] = remora.Seg{Addr: 0x1000 + remora.Addr(rnd.IntN(0x4010)), Buf: pattern(rnd.IntN(300))}
		}
		sum, err := space.Transfer(context.Background(), op, segs)
		var first error
		for i := range segs {
			s := &segs[i]
			if s.N < 0 || s.N > len(s.Buf) || (s.N == len(s.Buf)) != (s.Err == nil) {
				t.Fatalf("%v, segment %d: N = %d of %d, %v", op, i, s.N, len(s.Buf), s.Err)
			}
			if sum -= int64(s.N); first == nil {
				first = s.Err
			} else if op&remora.StopAtFault != 0 && len(s.Buf) > 0 && s.Err != remora.ErrStopped {
				t.Fatalf("segment %d behind the stop: %v", i, s.Err)
			}
			if s.Err != nil {
				short++
			}
			buf := make([]byte, s.N)
			if op&remora.Write != 0 {
				if err := shadow.Poke(s.Buf[:s.N], s.Addr); err != nil {
					t.Fatalf("segment %d counts what is not there: %v", i, err)
				}
			} else if err := shadow.Peek(buf, s.Addr); err != nil || !bytes.Equal(buf, s.Buf[:s.N]) {
				t.Fatalf("segment %d: %v, or other bytes than there are", i, err)
			}
		}
		if sum != 0 || err != first {
			t.Fatalf("the sum is wrong by %d; the error is %v, want %v", sum, err, first)
		}
	}
	if diff := shadow.Diff(below); diff != "" {
		t.Errorf("what was written is not what was counted:\n%s", diff)
	}
	if short < 200 {
		t.Errorf("only %d segments were stopped", short)
	}
}

func TestDelay(t *testing.T) {
	_, space := memory(t, "delay 20ms; delay 10ms")
	before := time.Now()
	if got := results(context.Background(), space, remora.Read, 1); got != "10 <nil>: 10" {
		t.Error(got)
	}
	if took := time.Since(before); took < 30*time.Millisecond {
		t.Errorf("the call took %v, less than the delays", took)
	}
	if _, err := space.Transfer(context.Background(), remora.Read, nil); err != nil {
		t.Errorf("an empty call: %v", err)
	}

	// The delay is longer than any test: only the context can end it.
	_, space = memory(t, "delay 1000h")
	for range 3 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		want := "0 context deadline exceeded: 0(context deadline exceeded) 0(context deadline exceeded)"
		if got := results(ctx, space, remora.Read, 2); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		cancel()
	}
	sum, err := space.Transfer(context.Background(), remora.Read, []remora.Seg{{Addr: 0x1000}, {Addr: 0}})
	if sum != 0 || err != nil {
		t.Errorf("empty segments wait for nothing, and give %d, %v", sum, err)
	}
}

func TestExplainNamesTheRule(t *testing.T) {
	_, space := memory(t, "read 0x1800+8 poisoned; write 0x1800 io # not for reading")
	mem := remora.New(space)
	for _, test := range []struct {
		a    remora.Addr
		want string
	}{
		{0x17ff, `read sparse:0x1800: injected by "read 0x1800+8 poisoned": memory failure reported by hardware`},
		{0x4ffe, "read sparse:0x5000: not mapped"},
	} {
		n, err := mem.ReadAt(context.Background(), make([]byte, 8), test.a)
		if got := fmt.Sprint(err); got != test.want || n != 0x1800-0x17ff && n != 2 {
			t.Errorf("%v: %d, %s, want %s", test.a, n, got, test.want)
		}
	}
	if _, err := mem.WriteAt(context.Background(), []byte{1}, 0x1800); !errors.Is(err, remora.ErrIO) {
		t.Error(err)
	}
}

// plain is a Space that cannot be closed.
type plain struct{ below remora.Space }

var _ remora.Space = (*plain)(nil)

func (p *plain) Info() remora.Info { return p.below.Info() }

func (p *plain) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	return p.below.Transfer(ctx, op, segs)
}

func TestCloseOfWhatHasNone(t *testing.T) {
	below, _ := memory(t, "")
	space, err := memfault.New(&plain{below}, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := space.Close(); err != nil {
		t.Fatal(err)
	}
	if got, want := results(context.Background(), space, remora.Read, 1), "0 file already closed: 0(file already closed)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := space.Transfer(context.Background(), remora.Write, nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("an empty call gives %v", err)
	}
	if got := results(context.Background(), below, remora.Read, 1); got != "10 <nil>: 10" {
		t.Errorf("the Space below: %s", got)
	}
}
