// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// cacheOver gives a cache and counts the calls that go past it.
func cacheOver(below remora.Space, o *CacheOptions) (*PageCache, *int) {
	calls := new(int)
	return Cache(Trace(below, func(Event) { *calls++ }), o), calls
}

// read makes one read and gives the byte that came, and why none did.
func read(t *testing.T, s remora.Space, op remora.Op, a remora.Addr, size int) (byte, error) {
	t.Helper()
	seg := []remora.Seg{{Addr: a, Buf: make([]byte, size)}}
	_, err := s.Transfer(t.Context(), op, seg)
	return seg[0].Buf[0], err
}

func TestCacheKeepsPages(t *testing.T) {
	below := mapped(t, nil, remora.Range{Size: 0x100000})
	c, calls := cacheOver(below, nil)
	expect := func(what string, more int) {
		t.Helper()
		if *calls != more {
			t.Errorf("%s: %d calls below, want %d", what, *calls, more)
		}
		*calls = 0
	}
	read(t, c, remora.Read, 0x10, 8)
	expect("the first read of a page", 1)
	read(t, c, remora.Read, 0x10, 8)
	read(t, c, remora.StopAtFault, 0xff8, 8)
	expect("further reads of it", 0)
	read(t, c, remora.Read, 0xff8, 0x1010)
	expect("a read of it and two more", 2)
	read(t, c, remora.Force, 0x10, 8)
	read(t, c, remora.Resident, 0x10, 8)
	expect("Force and Resident", 2)
	read(t, c, remora.Read, 0x20000, bypass)
	read(t, c, remora.Read, 0x20000, bypass)
	expect("long reads", 2)
	c.Drop()
	read(t, c, remora.Read, 0x10, 8)
	expect("after Drop", 1)
	read(t, c, remora.Read, 0x200000, 1)
	read(t, c, remora.Read, 0x200000, 8)
	expect("a hole, twice", 1)
}

// Two addresses may lead to the same byte, so a write drops all pages.
func TestCacheSeesWrites(t *testing.T) {
	below := mapped(t, nil, remora.Range{Size: 0x1000})
	twice := mustSplice(t, nil,
		Part{remora.Range{Start: 0, Size: 0x1000}, below, 0},
		Part{remora.Range{Start: 0x1000, Size: 0x1000}, below, 0})
	c := Cache(twice, nil)
	read(t, c, remora.Read, 0, 8)
	read(t, c, remora.Read, 0x1000, 8)
	if _, err := remora.New(c).WriteAt(t.Context(), []byte{7}, 0x1000); err != nil {
		t.Fatal(err)
	}
	for _, a := range []remora.Addr{0, 0x1000} {
		if v, err := read(t, c, remora.Read, a, 1); v != 7 || err != nil {
			t.Errorf("%v holds %d, %v after a write of 7", a, v, err)
		}
	}
}

func TestCacheOfALiveSpace(t *testing.T) {
	below := mapped(t, &memtest.SparseOptions{Live: true}, remora.Range{Size: 0x1000})
	for _, forced := range []bool{false, true} {
		below.Poke([]byte{1}, 0)
		c := Cache(below, &CacheOptions{Live: forced})
		read(t, c, remora.Read, 0, 1)
		below.Poke([]byte{2}, 0)
		want := byte(2)
		if forced {
			want = 1
		}
		if v, _ := read(t, c, remora.Read, 0, 1); v != want {
			t.Errorf("Live: %t: read %d, want %d", forced, v, want)
		}
		c.Drop()
		if v, _ := read(t, c, remora.Read, 0, 1); v != 2 {
			t.Errorf("Live: %t: read %d after Drop, want 2", forced, v)
		}
	}
}

// What lies behind a hole in a page is read all the same, and the hole is exact.
func TestCacheOfAPageWithAHole(t *testing.T) {
	below := mapped(t, nil, remora.Range{Size: 0x1000})
	data := make([]byte, 0x1000)
	for i := range data {
		data[i] = byte(i) | 1
	}
	below.Poke(data, 0)
	below.Inject(0x800, remora.Read, remora.ErrPoisoned)
	c := Cache(below, nil)
	for range 2 {
		for _, a := range []remora.Addr{0x900, 0x7ff, 0x800, 0x801} {
			v, err := read(t, c, remora.Read, a, 1)
			if a == 0x800 && err != remora.ErrPoisoned || a != 0x800 && (err != nil || v != data[a]) {
				t.Errorf("%v: %d, %v", a, v, err)
			}
		}
		segs := []remora.Seg{{Addr: 0x7f0, Buf: make([]byte, 32)}}
		if _, err := c.Transfer(t.Context(), remora.Read, segs); segs[0].N != 16 || err != remora.ErrPoisoned {
			t.Errorf("a read into the hole: %d, %v", segs[0].N, err)
		}
	}
}

// failing is a space whose reads end with an error, while there is one.
type failing struct {
	remora.Space
	err error
}

var _ remora.Space = (*failing)(nil)

func (f *failing) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if f.err == nil {
		return f.Space.Transfer(ctx, op, segs)
	}
	for i := range segs {
		segs[i].N, segs[i].Err = 0, f.err
	}
	return 0, f.err
}

func TestCacheKeepsNoPassingFault(t *testing.T) {
	wrapped := &remora.Fault{Space: "physical", Err: remora.ErrIO}
	for _, row := range []struct {
		err  error
		kept bool
	}{
		{remora.ErrUnmapped, true},
		{remora.ErrNotSaved, true},
		{&remora.Fault{Space: "physical", Err: remora.ErrNotSaved}, true},
		{remora.ErrIO, false},
		{wrapped, false},
		{fmt.Errorf("%w: %w", remora.ErrNoTable, context.Canceled), false},
		{fmt.Errorf("%w: %w", remora.ErrNoTable, remora.ErrGone), false},
		{remora.ErrGone, false},
		{remora.ErrBusy, false},
		{context.Canceled, false},
		{context.DeadlineExceeded, false},
		{errors.ErrUnsupported, false},
	} {
		f := &failing{mapped(t, nil, remora.Range{Size: 0x1000}), row.err}
		c := Cache(f, nil)
		if _, err := read(t, c, remora.Read, 0, 1); err != row.err {
			t.Errorf("%v: the first read gives %v", row.err, err)
		}
		f.err = nil
		_, err := read(t, c, remora.Read, 0, 1)
		if row.kept && err != row.err || !row.kept && err != nil {
			t.Errorf("%v: kept should be %t, and the second read gives %v", row.err, row.kept, err)
		}
	}
}

// While a write may still happen, nothing can be kept.
func TestCacheAfterAWriteInDoubt(t *testing.T) {
	below := mapped(t, nil, remora.Range{Size: 0x1000})
	f := &failing{below, remora.ErrInDoubt}
	c := Cache(f, nil)
	remora.New(c).WriteAt(t.Context(), []byte{1}, 0)
	f.err = nil
	read(t, c, remora.Read, 0, 1)
	below.Poke([]byte{1}, 0) // it happens
	if v, err := read(t, c, remora.Read, 0, 1); v != 1 || err != nil {
		t.Errorf("read %d, %v after the write in doubt has happened", v, err)
	}
	c.Drop()
	read(t, c, remora.Read, 0, 1)
	below.Poke([]byte{2}, 0)
	if v, _ := read(t, c, remora.Read, 0, 1); v != 1 {
		t.Error("nothing is kept after Drop")
	}
}

func TestCacheIsBounded(t *testing.T) {
	below := mapped(t, nil, remora.Range{Size: 0x400000})
	for _, bytes := range []int{1, 32 << 10, 100 << 10, 1 << 20} {
		c := Cache(below, &CacheOptions{Bytes: bytes})
		for a := remora.Addr(0); a < 0x400000; a += cachePage {
			read(t, c, remora.Read, a, 1)
		}
		kept := 0
		for i := range c.sets {
			for j := range c.sets[i].ways {
				kept += cap(c.sets[i].ways[j].data)
			}
		}
		want := 32 << 10
		for want < bytes {
			want *= 2
		}
		if kept > want || kept < want/2 {
			t.Errorf("Bytes %d: %d bytes are kept, want up to %d", bytes, kept, want)
		}
	}
}

// A read that begins after a write has returned sees it, whoever reads beside.
func TestCacheBesideWrites(t *testing.T) {
	below := mapped(t, nil, remora.Range{Size: 0x4000})
	c := Cache(below, &CacheOptions{Bytes: 1})
	m := remora.New(c)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for i := range 2 {
		wg.Go(func() {
			buf := make([]byte, 0x1000)
			for {
				select {
				case <-stop:
					return
				default:
					m.ReadAt(context.Background(), buf, remora.Addr(i)*0x1000)
				}
			}
		})
	}
	for i := range 2000 {
		a := remora.Addr(i%2) * 0x1000
		if _, err := m.WriteAt(t.Context(), []byte{byte(i)}, a); err != nil {
			t.Error(err)
		}
		if v, err := m.Uint8(t.Context(), a); v != byte(i) || err != nil {
			t.Errorf("read %d, %v after a write of %d", v, err, byte(i))
			break
		}
	}
	close(stop)
	wg.Wait()
}
