// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/remora-go/remora"
)

// steady stops the target, or has everything read twice, where that was asked for.
func (r *reading) steady(env *Env) error {
	o := r.opts
	if !o.pause && !o.stable {
		return nil
	}
	if !r.mem.Info().Live {
		if o.stable {
			env.Note("stable: this target does not change")
		}
		return nil
	}
	resume, err := pause(r.ctx, r.target)
	switch {
	case err == nil:
		r.resume = resume
		if o.stable {
			env.Note("stable: the target was paused")
		}
		return nil
	case o.pause, !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errors.ErrUnsupported):
		return err
	}
	why := err.Error()
	if _, ok := remora.As[remora.Pauser](r.target); !ok {
		why = "it cannot be paused"
	}
	env.Note("stable: read until two readings were equal, for " + why)
	r.mem = remora.New(&twice{lower: r.mem})
	return nil
}

// mostReadings is how often changing memory is read.
const mostReadings = 64

// errChanging says that memory never stood still.
var errChanging = fmt.Errorf("it changed during each of %d readings", mostReadings)

// twice is a Space that reads until two readings in a row are equal, call by call.
type twice struct{ lower *remora.Memory }

var _ remora.Space = (*twice)(nil)

// Info gives the facts of the space below; it is not written through here.
func (s *twice) Info() remora.Info {
	info := s.lower.Info()
	info.Writable = false
	info.Ops &^= remora.Write
	return info
}

// Unwrap lets the map and the explanations of the space below be found.
func (s *twice) Unwrap() any { return s.lower }

// Transfer reads. Segments of which no two readings were equal have N = 0 and
// errChanging.
func (s *twice) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	if op&remora.Write != 0 {
		for i := range segs {
			segs[i].N, segs[i].Err = 0, remora.ErrReadOnly
		}
		return 0, remora.ErrReadOnly
	}
	n, err := s.lower.Transfer(ctx, op, segs)
	again := make([]remora.Seg, len(segs))
	for i := range segs {
		again[i] = remora.Seg{Addr: segs[i].Addr, Buf: make([]byte, len(segs[i].Buf))}
	}
	for range mostReadings - 1 {
		if err != nil && ctx.Err() != nil {
			return n, err
		}
		var last int64
		if last, err = s.lower.Transfer(ctx, op, again); same(segs, again) {
			return last, err
		}
		for i := range segs {
			copy(segs[i].Buf, again[i].Buf[:again[i].N])
			segs[i].N, segs[i].Err = again[i].N, again[i].Err
		}
		n = last
	}
	for i := range segs {
		segs[i].N, segs[i].Err = 0, errChanging
	}
	return 0, errChanging
}

// same says whether two readings agree in their bytes and their faults.
func same(a, b []remora.Seg) bool {
	for i := range a {
		if a[i].N != b[i].N || a[i].Err != b[i].Err || !bytes.Equal(a[i].Buf[:a[i].N], b[i].Buf[:b[i].N]) {
			return false
		}
	}
	return true
}
