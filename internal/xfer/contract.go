// SPDX-License-Identifier: Apache-2.0

package xfer

import (
	"context"
	"errors"
	"io/fs"

	"github.com/remora-go/remora"
)

// Refusal gives the error with which a whole call must be refused before
// anything moves, or nil: rules 13 and 14. ops are the bits that the Space honours;
// Write needs no bit there, since it is governed by writable.
func Refusal(op, ops remora.Op, writable, open bool) error {
	switch {
	case op&^(ops|remora.Write) != 0:
		return errors.ErrUnsupported
	case !open:
		return fs.ErrClosed
	case op&remora.Write != 0 && !writable:
		return remora.ErrReadOnly
	}
	return nil
}

// Refuse ends every segment with N = 0 and err, those of length zero with no
// error (rule 8), and gives the results for Transfer to return. A call with
// nothing to move is an error only where the refusal is of the call itself:
// not for ErrReadOnly or a context's error.
func Refuse(segs []remora.Seg, err error) (int64, error) {
	whole := err == errors.ErrUnsupported || err == fs.ErrClosed
	for i := range segs {
		s := &segs[i]
		s.N, s.Err = 0, nil
		if len(s.Buf) > 0 {
			s.Err, whole = err, true
		}
	}
	if !whole {
		return 0, nil
	}
	return 0, err
}

// Abandon gives err to every segment from i on that is not empty, with N = 0.
func Abandon(segs []remora.Seg, i int, err error) {
	for ; i < len(segs); i++ {
		segs[i].N, segs[i].Err = 0, nil
		if len(segs[i].Buf) > 0 {
			segs[i].Err = err
		}
	}
}

// Total gives the results that rule 7 asks for. cut is the context's error when
// it cut the call short, else nil.
func Total(segs []remora.Seg, cut error) (int64, error) {
	var sum int64
	first := cut
	for i := range segs {
		sum += int64(segs[i].N)
		if first == nil {
			first = segs[i].Err
		}
	}
	return sum, first
}

// Reach gives the part of the segment that lies below the end of the address
// space: all of buf, or what fits up to the last address (rule 9).
func Reach(a remora.Addr, buf []byte) []byte {
	if room := uint64(remora.MaxAddr - a); uint64(len(buf)) > 0 && uint64(len(buf))-1 > room {
		return buf[:room+1]
	}
	return buf
}

// Lasting says whether a read that ended with err, or with nil, would end so again:
// whether the result may be kept. Contexts end, reading may fail once, and what is
// not a fault says nothing of the bytes.
func Lasting(err error) bool {
	if err == nil {
		return true
	}
	if !errors.Is(err, remora.ErrFault) {
		return false
	}
	for _, passing := range [...]error{remora.ErrIO, remora.ErrGone, remora.ErrBusy, context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, passing) {
			return false
		}
	}
	return true
}
