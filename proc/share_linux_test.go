// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/testneed"
)

// sharedKinds are the kinds of memory that a handle with MapShared maps here too.
func sharedKinds() []specimen.Kind {
	return []specimen.Kind{specimen.SharedMemory, specimen.SharedFile, specimen.SharedReadOnly}
}

// mapped counts the mappings of ours.
func (t *shares) mapped() (n int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, s := range t.list {
		if s.base != 0 {
			n++
		}
	}
	return n
}

// openShared opens a process whose memory at r has been read through a mapping of ours.
func openShared(t *testing.T, s *specimen.Specimen, k specimen.Kind, r remora.Range) *Process {
	t.Helper()
	p := openProcess(t, s.Pid(), &Options{MapShared: true})
	wantBytes(t, p, r.Start, s.Contents(k, r))
	if n := p.shared.mapped(); n != 1 {
		t.Fatalf("%d mappings are mapped here too, want 1", n)
	}
	return p
}

func wantBytes(t *testing.T, p *Process, a remora.Addr, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := p.Memory().ReadAt(t.Context(), got, a); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("%d bytes at %v are not what lies there", len(want), a)
	}
}

// wantCause reads bytes that begin at a and go on to where nothing can be read at all.
func wantCause(t *testing.T, p *Process, a remora.Addr, cause error) {
	t.Helper()
	for _, n := range []int{1, 8, pageSize, 2 * pageSize} {
		got := make([]byte, n)
		if n, err := p.Memory().ReadAt(t.Context(), got, a); n != 0 || !errors.Is(err, cause) {
			t.Errorf("read of %d bytes: %d, %v; want 0, %v", len(got), n, err, cause)
		}
	}
}

// What the target does to a mapping shows in the next read, whatever its size.
func TestSharedMappingChanges(t *testing.T) {
	testneed.Root(t)
	for name, change := range map[string]struct {
		do    func(*specimen.Specimen, remora.Range) error
		cause error
	}{
		"unmapped":  {(*specimen.Specimen).Unmap, remora.ErrUnmapped},
		"protected": {func(s *specimen.Specimen, r remora.Range) error { return s.Protect(r, 0) }, remora.ErrProtected},
		"cut short": {cutShort, remora.ErrBeyondEOF},
		"replaced": {func(s *specimen.Specimen, r remora.Range) error {
			if err := s.Unmap(r); err != nil {
				return err
			}
			_, err := s.MapAt(r.Start, specimen.NoAccess, int(r.Size)/pageSize)
			return err
		}, remora.ErrProtected},
		"gone": {func(s *specimen.Specimen, _ remora.Range) error { return s.Kill() }, remora.ErrGone},
	} {
		for _, kind := range sharedKinds() {
			t.Run(fmt.Sprintf("%s/%v", name, kind), func(t *testing.T) {
				s := specimentest.Start(t, nil)
				r, err := s.Map(kind, 4)
				if err != nil {
					t.Fatal(err)
				}
				p := openShared(t, s, kind, r)
				if err := change.do(s, r); err != nil {
					t.Fatal(err)
				}
				wantCause(t, p, r.Start, change.cause)
				wantCause(t, p, r.Start+remora.Addr(pageSize)+1, change.cause)
			})
		}
	}
}

// cutShort takes the file behind r its bytes.
func cutShort(s *specimen.Specimen, r remora.Range) error {
	return os.Truncate(procFile(s.Pid(), fmt.Sprintf("map_files/%x-%x", uint64(r.Start), uint64(r.Start)+r.Size)), 0)
}

// Other memory of the same kind in the same place is read, not the old one.
func TestSharedMappingReplaced(t *testing.T) {
	testneed.Root(t)
	s := specimentest.Start(t, nil)
	r, err := s.Map(specimen.SharedMemory, 4)
	if err != nil {
		t.Fatal(err)
	}
	p := openShared(t, s, specimen.SharedMemory, r)
	if err := s.Unmap(r); err != nil {
		t.Fatal(err)
	}
	if _, err := s.MapAt(r.Start, specimen.SharedMemory, 4); err != nil {
		t.Fatal(err)
	}
	changed := bytes.Repeat([]byte{0x5a}, 100)
	if err := s.Poke(changed, r.Start+200); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, p, r.Start+200, changed)
	want := s.Contents(specimen.SharedMemory, r)
	copy(want[200:], changed)
	wantBytes(t, p, r.Start, want)
	if n := p.shared.mapped(); n != 1 {
		t.Errorf("%d mappings are mapped here too, want 1", n)
	}
}

// Only some of a mapping is made unreadable: the rest is read as before.
func TestSharedMappingSplit(t *testing.T) {
	testneed.Root(t)
	s := specimentest.Start(t, nil)
	r, err := s.Map(specimen.SharedMemory, 4)
	if err != nil {
		t.Fatal(err)
	}
	p := openShared(t, s, specimen.SharedMemory, r)
	page := uint64(pageSize)
	if err := s.Protect(remora.Range{Start: r.Start + remora.Addr(2*page), Size: page}, 0); err != nil {
		t.Fatal(err)
	}
	want := s.Contents(specimen.SharedMemory, r)
	segs := []remora.Seg{
		{Addr: r.Start, Buf: make([]byte, 4*page)},
		{Addr: r.Start + remora.Addr(3*page), Buf: make([]byte, page)},
	}
	n, err := p.Memory().ReadV(t.Context(), segs)
	if n != int64(3*page) || err != error(remora.ErrProtected) || segs[0].N != int(2*page) || segs[1].N != int(page) {
		t.Errorf("%d, %v: %d and %d bytes", n, err, segs[0].N, segs[1].N)
	}
	if !bytes.Equal(segs[0].Buf[:segs[0].N], want[:2*page]) || !bytes.Equal(segs[1].Buf, want[3*page:]) {
		t.Error("the bytes are not what lies there")
	}
}

// What could be told apart from a read of the target is not read here.
func TestNotShared(t *testing.T) {
	testneed.Root(t)
	for _, kind := range []specimen.Kind{specimen.Touched, specimen.PrivateFile, specimen.Secret, specimen.NoAccess} {
		s := specimentest.Start(t, nil)
		r, err := s.Map(kind, 2)
		if err != nil {
			t.Fatal(err)
		}
		p := openProcess(t, s.Pid(), &Options{MapShared: true})
		_, _ = p.Memory().ReadAt(t.Context(), make([]byte, 8), r.Start)
		if n := p.shared.mapped(); n != 0 {
			t.Errorf("%v: %d mappings are mapped here too", kind, n)
		}
	}
}

// A handle that follows an execve forgets the mappings of the program before.
func TestSharedMappingsAcrossExec(t *testing.T) {
	testneed.Root(t)
	s := specimentest.Start(t, nil)
	r, err := s.Map(specimen.SharedMemory, 2)
	if err != nil {
		t.Fatal(err)
	}
	p := openProcess(t, s.Pid(), &Options{MapShared: true, FollowExec: true})
	wantBytes(t, p, r.Start, s.Contents(specimen.SharedMemory, r))
	if err := s.Exec(); err != nil {
		t.Fatal(err)
	}
	wantCause(t, p, r.Start, remora.ErrUnmapped)
	if n := p.shared.mapped(); n != 0 {
		t.Errorf("%d mappings are mapped here too", n)
	}
}

// MapUnchecked is blind, as it says.
func TestMapUncheckedIsBlind(t *testing.T) {
	testneed.Root(t)
	s := specimentest.Start(t, nil)
	r, err := s.Map(specimen.SharedMemory, 2)
	if err != nil {
		t.Fatal(err)
	}
	p := openProcess(t, s.Pid(), &Options{MapUnchecked: true})
	want := s.Contents(specimen.SharedMemory, r)
	wantBytes(t, p, r.Start, want)
	if err := s.Unmap(r); err != nil {
		t.Fatal(err)
	}
	wantBytes(t, p, r.Start, want)
}

// A context that can end keeps to files in memory: others could keep the copy waiting.
func TestSharedFilesMayWait(t *testing.T) {
	testneed.Root(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := specimentest.Start(t, nil)
	r, err := s.Map(specimen.SharedMemory, 2)
	if err != nil {
		t.Fatal(err)
	}
	p := openShared(t, s, specimen.SharedMemory, r)
	share := p.shared.find(r.Start)
	if !share.usable(r.Start, 8, true) {
		t.Error("memory is not read through its mapping when the context can end")
	}
	share.calm = false
	if share.usable(r.Start, 8, true) || !share.usable(r.Start, 8, false) {
		t.Error("a file on storage must be read through its mapping only when the context cannot end")
	}
	got := make([]byte, 100)
	if _, err := p.Memory().ReadAt(ctx, got, r.Start); err != nil || !bytes.Equal(got, s.Contents(specimen.SharedMemory, r)[:100]) {
		t.Errorf("read with a context that can end: %v", err)
	}
}
