// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// restless changes a byte before each of its first readings.
type restless struct {
	*memtest.Sparse
	changes  int
	readings int
	pause    error // what Pause gives; nil: it can
	resumed  int
}

var _ remora.Space = (*restless)(nil)

func (r *restless) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	r.readings++
	if r.changes > 0 {
		r.changes--
		if err := r.Poke([]byte{byte(r.changes)}, 0x1010); err != nil {
			return 0, err
		}
	}
	return r.Sparse.Transfer(ctx, op, segs)
}

func (r *restless) Memory() *remora.Memory { return remora.New(r) }

func (r *restless) Pause(context.Context) (func() error, error) {
	return func() error { r.resumed++; return nil }, r.pause
}

func newRestless(t *testing.T, changes int) *restless {
	s := memtest.NewSparse(&memtest.SparseOptions{Live: true})
	if err := s.Map(remora.Range{Start: 0x1000, Size: 0x1000}, memtest.MapOptions{Perm: remora.PermRead}); err != nil {
		t.Fatal(err)
	}
	return &restless{Sparse: s, changes: changes}
}

func TestTwiceReadsUntilTwoReadingsAreEqual(t *testing.T) {
	r := newRestless(t, 5)
	m := remora.New(&twice{lower: r.Memory()})
	segs := []remora.Seg{{Addr: 0x1ff8, Buf: make([]byte, 16)}, {Addr: 0x1000, Buf: make([]byte, 32)}, {Addr: 0x1010}}
	n, err := m.ReadV(t.Context(), segs)
	if n != 40 || !errors.Is(err, remora.ErrUnmapped) || segs[0].N != 8 || segs[0].Err != remora.ErrUnmapped || segs[1].N != 32 || segs[1].Err != nil {
		t.Errorf("got %d, %v, %+v", n, err, segs)
	}
	want := make([]byte, 32)
	if err := r.Peek(want, 0x1000); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(segs[1].Buf, want) {
		t.Errorf("got %x, want what is there now: %x", segs[1].Buf, want)
	}
	if r.changes != 0 || r.readings != 6 {
		t.Errorf("%d readings, want 6: the last two are equal", r.readings)
	}
}

func TestTwiceGivesUpOnWhatNeverStandsStill(t *testing.T) {
	r := newRestless(t, 1<<20)
	segs := []remora.Seg{{Addr: 0x1010, Buf: make([]byte, 1)}}
	n, err := (&twice{lower: r.Memory()}).Transfer(t.Context(), remora.Read, segs)
	if n != 0 || err != errChanging || segs[0].N != 0 || segs[0].Err != errChanging {
		t.Errorf("got %d, %v, %+v", n, err, segs)
	}
	if r.readings != mostReadings {
		t.Errorf("%d readings, want %d", r.readings, mostReadings)
	}
}

func TestTwiceWritesNothing(t *testing.T) {
	r := newRestless(t, 0)
	s := &twice{lower: r.Memory()}
	segs := []remora.Seg{{Addr: 0x1010, Buf: []byte{1}}}
	if n, err := s.Transfer(t.Context(), remora.Write, segs); n != 0 || err != remora.ErrReadOnly || segs[0].Err != remora.ErrReadOnly {
		t.Errorf("got %d, %v, %+v", n, err, segs)
	}
	if s.Info().Writable || r.readings != 0 {
		t.Error("it can be written")
	}
}

func TestTwiceEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	segs := []remora.Seg{{Addr: 0x1010, Buf: make([]byte, 1)}}
	if _, err := (&twice{lower: newRestless(t, 0).Memory()}).Transfer(ctx, remora.Read, segs); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestSteady(t *testing.T) {
	refusal := &remora.AccessError{Target: "pid 1", Act: "stop", Reason: "Yama"}
	for _, c := range []struct {
		name          string
		pause, stable bool
		refusal       error
		note          string
		fails, paused bool
	}{
		{"neither was asked for", false, false, nil, "", false, false},
		{"paused", true, false, nil, "", false, true},
		{"stable by a pause", false, true, nil, "stable: the target was paused", false, true},
		{"stable without a pause", false, true, refusal, "stable: read until two readings were equal, for " + refusal.Error(), false, false},
		{"a pause that is refused", true, true, refusal, "", true, false},
		{"a target that is gone", false, true, remora.ErrGone, "", true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			target := newRestless(t, 0)
			target.pause = c.refusal
			note := ""
			r := &reading{ctx: t.Context(), target: target, mem: target.Memory(), opts: &readOptions{pause: c.pause, stable: c.stable}}
			err := r.steady(&Env{Note: func(text string) { note = text }})
			if (err != nil) != c.fails || note != c.note || (r.resume != nil) != c.paused {
				t.Errorf("got %v, note %q, paused %v", err, note, r.resume != nil)
			}
			if err := r.Close(); err != nil || (target.resumed == 1) != c.paused {
				t.Errorf("closed with %v, resumed %d times", err, target.resumed)
			}
			if errors.Is(err, fs.ErrPermission) && !c.fails {
				t.Error(err)
			}
		})
	}
}
