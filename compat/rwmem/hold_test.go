// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"errors"
	"runtime"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

func TestR85ExitWaitsForHolders(t *testing.T) {
	s := plain(t, 1)
	p := New(s, nil)
	for range 2 {
		if err := p.Hold(); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error, 1)
	go func() { done <- p.Close() }()
	for { // until the exit has begun: from then on nobody else can hold
		err := p.Hold()
		if err != nil {
			wantErrno(t, err, errno.ESRCH)
			if !errors.Is(err, ErrExiting) || !errors.Is(err, remora.ErrGone) {
				t.Error(err)
			}
			break
		}
		p.Release()
		runtime.Gosched()
	}
	for range 2 {
		select {
		case <-done:
			t.Fatal("the process exited while it was held")
		default:
		}
		buf := make([]byte, 1)
		if n, err := p.ReadMem(t.Context(), nil, buf, base); n != 1 || err != nil || buf[0] != 1 {
			t.Fatal("a held process cannot be read:", n, err)
		}
		p.Release()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := p.ReadMem(t.Context(), nil, make([]byte, 1), base); !errors.Is(err, ErrNotHeld) {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error("closed twice:", err)
	}
}

func TestR85ReleaseWithoutHold(t *testing.T) {
	p := New(plain(t, 1), nil)
	if err := p.Hold(); err != nil {
		t.Fatal(err)
	}
	p.Release()
	defer func() {
		if recover() == nil {
			t.Error("a Release too many was not noticed")
		}
	}()
	p.Release()
}

// A hold is about the life of the process, not about what its memory holds.
func TestR85HoldDoesNotLockMemory(t *testing.T) {
	s := plain(t, 2)
	p := held(t, s, nil)
	if err := s.Unmap(remora.Range{Start: base, Size: ps}); err != nil {
		t.Fatal(err)
	}
	_, err := p.ReadMem(t.Context(), nil, make([]byte, 8), base)
	wantErrno(t, err, errno.EFAULT)
}
