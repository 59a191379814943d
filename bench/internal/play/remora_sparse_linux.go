// SPDX-License-Identifier: Apache-2.0

package play

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/remora-go/remora"
)

// sparse reads what is resident in a range, in one goroutine or a half in each of two.
func (p *player) sparse(args []string) (*Work, error) {
	halves := 1
	if len(args) == 4 {
		halves, args = 2, args[:3]
	}
	t, v, err := p.open(args, 2)
	if err != nil {
		return nil, err
	}
	presence, ok := remora.As[remora.Presence](t)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s does not tell what is resident", args[0]), t.Close())
	}
	half := v[1] / uint64(halves)
	var all []reading
	for i := range halves {
		r := remora.Range{Start: remora.Addr(v[0] + uint64(i)*half), Size: half}
		all = append(all, (&sparse{mem: t.Memory(), in: presence, within: r, buf: used(piece)}).read)
	}
	w := together(all, pages)
	w.Close = t.Close
	return w, nil
}

// pages takes the address and the bytes of each page that holds other than zeros.
func pages(d *digest, a remora.Addr, p []byte) {
	const page = 4096
	for zeros := make([]byte, page); len(p) >= page; a, p = a+page, p[page:] {
		if !bytes.Equal(p[:page], zeros) {
			d.add(binary.LittleEndian.AppendUint64(nil, uint64(a)))
			d.add(p[:page])
		}
	}
}

// sparse is a range of which what is resident is read, 1 MiB a call.
type sparse struct {
	mem    *remora.Memory
	in     remora.Presence
	within remora.Range
	buf    []byte
	segs   []remora.Seg
	size   int
}

func (s *sparse) read(see seer) error {
	for run, err := range s.in.Present(context.Background(), s.within) {
		if err != nil {
			return err
		}
		for at := uint64(0); at < run.Size; {
			if s.size == len(s.buf) {
				if err := s.flush(see); err != nil {
					return err
				}
			}
			n := min(run.Size-at, uint64(len(s.buf)-s.size))
			s.segs = append(s.segs, remora.Seg{Addr: run.Start + remora.Addr(at), Buf: s.buf[s.size:][:n]})
			s.size += int(n)
			at += n
		}
	}
	return s.flush(see)
}

func (s *sparse) flush(see seer) error {
	if _, err := s.mem.ReadV(context.Background(), s.segs); err != nil {
		return err
	}
	for i := range s.segs {
		see(s.segs[i].Addr, s.segs[i].Buf)
	}
	s.segs, s.size = s.segs[:0], 0
	return nil
}
