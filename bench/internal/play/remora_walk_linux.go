// SPDX-License-Identifier: Apache-2.0

package play

import (
	"context"
	"errors"
	"sync"

	"github.com/remora-go/remora"
)

// seer is shown what has been read.
type seer func(remora.Addr, []byte)

// reading reads a part of some memory, in address order.
type reading func(see seer) error

// together is work that is done in parts, each in a goroutine. Add takes what is read into a
// digest: then one part comes after the other.
func together(parts []reading, add func(*digest, remora.Addr, []byte)) *Work {
	blind := func(remora.Addr, []byte) {}
	return &Work{
		Do: func() error {
			var others sync.WaitGroup
			errs := make([]error, len(parts))
			for i, read := range parts[1:] {
				others.Go(func() { errs[1+i] = read(blind) })
			}
			errs[0] = parts[0](blind)
			others.Wait()
			return errors.Join(errs...)
		},
		Digest: func() (string, error) {
			var d digest
			var errs []error
			for _, read := range parts {
				errs = append(errs, read(func(a remora.Addr, p []byte) { add(&d, a, p) }))
			}
			return d.String(), errors.Join(errs...)
		},
	}
}

// contents takes bytes into a digest, wherever they lie.
func contents(d *digest, _ remora.Addr, p []byte) { d.add(p) }

// walk reads what is mapped from first to end, and can be read.
type walk struct {
	mem        *remora.Memory
	in         remora.Mapper
	first, end uint64
	buf        []byte
	segs       [1]remora.Seg
}

func (w *walk) read(see seer) error {
	for reg, err := range w.in.Regions(context.Background()) {
		if err != nil {
			return err
		}
		if reg.Perm&remora.PermRead == 0 {
			continue
		}
		at, end := max(w.first, uint64(reg.Start)), min(w.end, uint64(reg.Last())+1)
		for n := uint64(0); at < end; at += n {
			n = min(uint64(len(w.buf)), end-at)
			w.segs[0] = remora.Seg{Addr: remora.Addr(at), Buf: w.buf[:n]}
			if _, err := w.mem.ReadV(context.Background(), w.segs[:]); err != nil {
				return err
			}
			see(w.segs[0].Addr, w.segs[0].Buf)
		}
	}
	return nil
}
