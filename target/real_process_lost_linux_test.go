// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/kernel"
)

// patchy is a memory of which some pages are lost, or hold something else.
type patchy struct {
	remora.Space
	seed  uint64
	each  uint64 // one page of so many
	noise bool
	image remora.Range // that has none of them: the kernel's
}

func (p *patchy) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (sum int64, first error) {
	for i := range segs {
		s := &segs[i]
		s.N, s.Err = 0, nil
		for s.N < len(s.Buf) && s.Err == nil {
			var n int
			n, s.Err = p.move(ctx, op, s.Addr+remora.Addr(s.N), s.Buf[s.N:])
			s.N += n
		}
		if sum += int64(s.N); s.Err != nil && first == nil {
			first = s.Err
		}
	}
	return sum, first
}

// Unwrap hides nothing: what memory there is stays known.
func (p *patchy) Unwrap() any { return p.Space }

// move moves up to the end of a page.
func (p *patchy) move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (int, error) {
	buf = buf[:min(len(buf), int(page-a%page))]
	x := (uint64(a/page) + p.seed) * 0x9e3779b97f4a7c15
	hit := (x^x>>29)%p.each == 0 && !p.image.Contains(a)
	if hit && !p.noise {
		return 0, remora.ErrTruncated
	}
	seg := []remora.Seg{{Addr: a, Buf: buf}}
	_, _ = p.Space.Transfer(ctx, op, seg) // it is in the segment
	if hit {
		for i := 0; i+8 <= seg[0].N; i += 8 {
			if w := binary.LittleEndian.Uint64(buf[i:]); x>>(i/8%50)&7 == 0 { // some of its words
				binary.LittleEndian.PutUint64(buf[i:], w^1<<(x>>20&63))
			}
		}
	}
	return seg[0].N, seg[0].Err
}

// TestRealProcessLost opens a process in memory of which pages are lost: what can be read of
// it is right. Where pages hold something else it may be anything, but it ends.
func TestRealProcessLost(t *testing.T) {
	m := openMoment(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	main := m.Truth().Witness(witness.RoleMain)
	k, img := m.kernel(t, vmlab.ELF)
	layout, err := k.Layout(t.Context())
	if err != nil || len(layout.Image) == 0 {
		t.Fatal(err)
	}
	var text strings.Builder
	for key, value := range m.Truth().VMCOREINFO() {
		text.WriteString(key + "=" + value + "\n")
	}
	full := openProcess(t, k, main.Pid, nil)
	opened, same, lost := 0, 0, map[error]int{}
	for seed := range uint64(24) {
		phys := &patchy{Space: img, seed: seed, each: 20 + 40*(seed%4), noise: seed%3 == 2, image: layout.Image[0].Range}
		k := kernel.New(phys, "patchy", &kernel.Hints{VMCoreInfo: kernel.ParseVMCoreInfo([]byte(text.String()))})
		p, err := k.Process(t.Context(), main.Pid, nil)
		if err != nil {
			continue
		}
		opened++
		for _, g := range main.Regions {
			for at := g.Start; at < g.End; at += page * 3 {
				want, got := make([]byte, page), make([]byte, page)
				_, wantErr := full.Memory().ReadAt(t.Context(), want, remora.Addr(at))
				_, err := p.Memory().ReadAt(t.Context(), got, remora.Addr(at))
				switch {
				case phys.noise:
				case err != nil && wantErr == nil && !errors.Is(err, remora.ErrTruncated) && !errors.Is(err, remora.ErrNotPresent):
					t.Fatalf("seed %d: 0x%x: %v", seed, at, err)
				case err != nil:
					lost[cause(err)]++
				case wantErr == nil && bytes.Equal(got, want):
					same++
				default:
					t.Fatalf("seed %d: 0x%x: other bytes, or %v", seed, at, wantErr)
				}
			}
		}
		for _, err := range p.PageUsage(t.Context()) {
			_ = err
		}
		for _, err := range p.Threads(t.Context()) {
			_ = err
		}
		_, _, _ = p.Command(t.Context())
		p.Close()
		k.Close()
	}
	t.Logf("%d opened; %d pages are right, of the others %v", opened, same, lost)
	if opened < 3 || same < 1000 {
		t.Errorf("only %d could be opened, and %d pages are right", opened, same)
	}
}
