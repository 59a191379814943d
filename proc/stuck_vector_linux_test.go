// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"testing"

	"github.com/remora-go/remora"
)

// TestStuckVector: what comes before the stuck segment is complete, what comes after
// it has not been attempted.
func TestStuckVector(t *testing.T) {
	for _, op := range []remora.Op{remora.Read, remora.StopAtFault} {
		endings(t, func(t *testing.T, ctx context.Context, end func(), want error) {
			f := freeze(t, Options{}, 2, 1)
			good := f.contents(nil)
			hole := remora.Seg{Addr: 4096, Buf: make([]byte, 4)}
			segs := []remora.Seg{
				{Addr: f.before.Start + 1, Buf: make([]byte, 100)},
				{Addr: f.before.Start, Buf: make([]byte, 2*pageSize)},
				{Addr: f.stuck.Start - 7, Buf: make([]byte, 20)},
				{Addr: f.after.Start, Buf: make([]byte, 10)},
				hole,
			}
			tr := f.start(ctx, op, segs...)
			f.waits(2)
			end()
			f.wait(tr)
			tr.check(t, want,
				remora.Seg{N: 100, Buf: good[1:]},
				remora.Seg{N: 2 * pageSize, Buf: good},
				remora.Seg{N: 7, Err: want, Buf: good[2*pageSize-7:]},
				remora.Seg{Err: want},
				remora.Seg{Err: want})
		})
	}
}

// TestStuckManySegments: thousands of small reads, which share pages, in no order.
func TestStuckManySegments(t *testing.T) {
	const count, first = 4000, 2500 // the first that is stuck
	endings(t, func(t *testing.T, ctx context.Context, end func(), want error) {
		f := freeze(t, Options{}, 64, 1)
		good := f.contents(nil)
		segs, wants := make([]remora.Seg, count), make([]remora.Seg, count)
		for i := range segs {
			at := i * 7919 % (len(good) - 2*pageSize - 8)
			segs[i] = remora.Seg{Addr: f.before.Start + remora.Addr(at), Buf: make([]byte, 8)}
			wants[i] = remora.Seg{N: 8, Buf: good[at:]}
			if i == first {
				segs[i].Addr, wants[i] = f.stuck.Start+8, remora.Seg{Err: want}
			}
		}
		tr := f.start(ctx, remora.Read, segs...)
		f.waits(2)
		end()
		f.wait(tr)
		// Those after it may have been read along with a page that came before.
		done := int64(0)
		for i := range segs {
			got := &segs[i]
			done += int64(got.N)
			if i > first && got.Err == want && got.N == 0 {
				continue
			}
			if got.N != wants[i].N || got.Err != wants[i].Err || !bytes.Equal(got.Buf[:got.N], wants[i].Buf[:got.N]) {
				t.Fatalf("segment %d: %d, %v, want %d, %v", i, got.N, got.Err, wants[i].N, wants[i].Err)
			}
		}
		if tr.n != done || tr.err != want {
			t.Errorf("%d, %v, want %d, %v", tr.n, tr.err, done, want)
		}
		if last := &segs[count-1]; last.Err == nil {
			t.Error("nothing was left out")
		}
	})
}

// TestStuckWrite: a write that the kernel has may still happen. It is in doubt, and
// then it happens, with the bytes that the buffer held.
func TestStuckWrite(t *testing.T) {
	endings(t, func(t *testing.T, ctx context.Context, end func(), want error) {
		f := freeze(t, Options{}, 1, 1)
		text := []byte("written late")
		buf, other := bytes.Clone(text), bytes.Clone(text)
		tr := f.start(ctx, remora.Write,
			remora.Seg{Addr: f.stuck.Start + 9, Buf: buf}, remora.Seg{Addr: f.after.Start, Buf: other})
		f.waits(1)
		end()
		f.wait(tr)
		tr.check(t, want, remora.Seg{Err: remora.ErrInDoubt}, remora.Seg{Err: remora.ErrInDoubt})
		clear(buf)
		clear(other)

		page := f.resolve()
		f.ended()
		got := make([]byte, len(page))
		if err := f.Peek(got, f.stuck.Start); err != nil {
			t.Fatal(err)
		}
		copy(page[9:], text)
		if !bytes.Equal(got, page) {
			t.Errorf("the page holds %q at the place of the write", got[9:9+len(text)])
		}
		if err := f.Peek(got[:len(text)], f.after.Start); err != nil || !bytes.Equal(got[:len(text)], text) {
			t.Errorf("the segment after it: %q, %v", got[:len(text)], err)
		}
	})
}

// TestStuckLargeWrite: what earlier calls have written is counted, and what none has
// been made for is not in doubt.
func TestStuckLargeWrite(t *testing.T) {
	endings(t, func(t *testing.T, ctx context.Context, end func(), want error) {
		f := freeze(t, Options{}, 300, 1)
		buf := bytes.Repeat([]byte{0x5a}, int(f.before.Size+f.stuck.Size))
		tr := f.start(ctx, remora.Write, remora.Seg{Addr: f.before.Start, Buf: buf},
			remora.Seg{Addr: f.after.Start, Buf: buf[:3]})
		f.waits(1)
		end()
		f.wait(tr)
		if n := tr.segs[0].N; n != 1<<20 {
			t.Errorf("%d bytes are counted, want the first call of 1 MiB", n)
		}
		if tr.segs[0].Err != remora.ErrInDoubt || tr.segs[1].N != 0 || tr.err != want {
			t.Errorf("%v, %v, %v", tr.segs[0].Err, tr.segs[1].Err, tr.err)
		}
		got := make([]byte, 1<<20)
		if err := f.Peek(got, f.before.Start); err != nil || !bytes.Equal(got, buf[:len(got)]) {
			t.Errorf("what is counted was not written (%v)", err)
		}
		f.resolve()
		f.ended()
		got = make([]byte, len(buf))
		if err := f.Peek(got, f.before.Start); err != nil || !bytes.Equal(got, buf) {
			t.Errorf("what was in doubt has not happened (%v)", err)
		}
	})
}

// TestStuckWriteGoesOn: the page comes in mid-call.
func TestStuckWriteGoesOn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := freeze(t, Options{}, 1, 1)
	text := []byte("written in time")
	tr := f.start(ctx, remora.Write, remora.Seg{Addr: f.stuck.Start - 3, Buf: text})
	f.waits(1)
	f.resolve()
	f.wait(tr)
	tr.check(t, nil, remora.Seg{N: len(text)})
	got := make([]byte, len(text))
	if err := f.Peek(got, f.stuck.Start-3); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%q, %v", got, err)
	}
}
