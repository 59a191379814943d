// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/btf"
)

// findTypes finds the BTF that the kernel keeps of itself: by its symbols, and where the
// kernel's table of symbols has those of functions alone, by what it looks like.
func (k *Kernel) findTypes(ctx context.Context) (*Types, error) {
	r, why := k.rangeOfBTF(ctx)
	if why == nil {
		t, err := k.typesAt(ctx, r, "from __start_BTF to __stop_BTF")
		if err != nil {
			return nil, &NoTypesError{err}
		}
		return t, nil
	}
	t, err := k.scanForBTF(ctx)
	if err != nil {
		return nil, &NoTypesError{errors.Join(why, err)}
	}
	return t, nil
}

// rangeOfBTF gives where the symbols have it (BTF in include/asm-generic/vmlinux.lds.h).
func (k *Kernel) rangeOfBTF(ctx context.Context) (r remora.Range, err error) {
	start, err := k.symbol(ctx, "__start_BTF")
	if err != nil {
		return r, err
	}
	stop, err := k.symbol(ctx, "__stop_BTF")
	if err != nil {
		return r, err
	}
	if stop <= start {
		return r, fmt.Errorf("__stop_BTF at %v is not behind __start_BTF at %v: %w", stop, start, remora.ErrCorrupt)
	}
	return remora.Range{Start: start, Size: uint64(stop - start)}, nil
}

// typesAt gives the types whose BTF is in a range of the kernel's memory.
func (k *Kernel) typesAt(ctx context.Context, r remora.Range, how string) (*Types, error) {
	data, err := btf.Open(ctx, "the kernel's BTF", r.Size, k.readBTF(r.Start), nil)
	if err != nil {
		return nil, err
	}
	return newTypes(k, data, how), nil
}

// readBTF gives what reads the BTF at a.
func (k *Kernel) readBTF(a remora.Addr) btf.Read {
	return func(ctx context.Context, p []byte, off uint32) error {
		_, err := k.mem.ReadAt(ctx, p, a+remora.Addr(off))
		return err
	}
}

const (
	scanWindow = 1 << 20
	// leastBTF is less than the types of any kernel, and more than those of a module.
	leastBTF = 500_000
)

// magicOfBTF begins BTF of the byte order that all these machines have.
const magicOfBTF = "\x9f\xeb\x01\x00"

// scanForBTF looks for BTF in the image of the kernel. There are copies elsewhere in
// memory: what the kernel was unpacked from, and the file that it was read out of.
func (k *Kernel) scanForBTF(ctx context.Context) (*Types, error) {
	l, err := k.Layout(ctx)
	if err != nil {
		return nil, err
	}
	s := btfScan{k: k, buf: make([]byte, scanWindow)}
	for _, p := range l.Image {
		if t := s.in(ctx, remora.Range{Start: p.Virt, Size: p.Size}); t != nil {
			return t, nil
		}
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	text := fmt.Sprintf("no BTF is in the %d KiB of the kernel's image, which a kernel made with CONFIG_DEBUG_INFO_BTF=y has", s.seen>>10)
	if s.lost != 0 {
		return nil, fmt.Errorf("%s; %d KiB of it could not be read: %w", text, s.lost>>10, s.why)
	}
	return nil, errors.New(text)
}

// btfScan is a search for BTF.
type btfScan struct {
	k    *Kernel
	buf  []byte
	seen uint64 // bytes
	lost uint64 // of them: that could not be read
	why  error  // of the first of those
}

// in looks through a range of the kernel's memory.
func (s *btfScan) in(ctx context.Context, r remora.Range) *Types {
	s.seen += r.Size
	for off := uint64(0); off < r.Size && ctx.Err() == nil; {
		b := s.buf[:min(scanWindow, r.Size-off)]
		n, err := s.k.mem.ReadAt(ctx, b, r.Start+remora.Addr(off))
		for at := 0; ; at++ {
			i := bytes.Index(b[at:n], []byte(magicOfBTF))
			if i < 0 {
				break
			}
			at += i
			start := off + uint64(at)
			if t := s.try(ctx, remora.Range{Start: r.Start + remora.Addr(start), Size: r.Size - start}); t != nil {
				return t
			}
		}
		switch {
		case err == nil && off+uint64(n) == r.Size:
			return nil
		case err == nil:
			off += uint64(n) - (uint64(len(magicOfBTF)) - 1)
		default:
			next := (off+uint64(n))&^0xfff + 0x1000
			if s.why == nil {
				s.why = err
			}
			s.lost += min(next, r.Size) - off - uint64(n)
			off = next
		}
	}
	return nil
}

// try takes what is at the start of a range for the BTF of a kernel.
func (s *btfScan) try(ctx context.Context, r remora.Range) *Types {
	var h [24]byte
	if _, err := s.k.mem.ReadAt(ctx, h[:], r.Start); err != nil {
		return nil
	}
	head, types := uint64(binary.LittleEndian.Uint32(h[4:])), uint64(binary.LittleEndian.Uint32(h[12:]))
	text := uint64(binary.LittleEndian.Uint32(h[16:])) + uint64(binary.LittleEndian.Uint32(h[20:]))
	size := head + max(uint64(binary.LittleEndian.Uint32(h[8:]))+types, text)
	if types < leastBTF || size > r.Size {
		return nil
	}
	t, err := s.k.typesAt(ctx, remora.Range{Start: r.Start, Size: size}, fmt.Sprintf("found at %v in the kernel's image", r.Start))
	if err != nil {
		return nil
	}
	var pid, comm field
	if t.fields(ctx, wanted{&pid, "task_struct.pid", false}, wanted{&comm, "task_struct.comm", false}) != nil {
		return nil
	}
	return t
}
