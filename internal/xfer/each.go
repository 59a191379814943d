// SPDX-License-Identifier: Apache-2.0

package xfer

import (
	"context"
	"errors"

	"github.com/remora-go/remora"
)

// The size of a chunk: what is moved between two looks at the context (rule 11).
const (
	ChunkBytes = 1 << 20
	ChunkSegs  = 1024
)

// Mover is the least a backend must be able to do.
type Mover interface {
	// Move moves a prefix of buf, which is not empty, ends at or below the last
	// address, and crosses no multiple of ChunkBytes. With an error, n is exact:
	// the byte at a+n is the one that could not be moved. Without one, n may still
	// be less than len(buf): Move is then asked for the rest. A write changes nothing
	// beyond the n bytes.
	Move(ctx context.Context, op remora.Op, a remora.Addr, buf []byte) (n int, err error)
}

// Prefetcher is a Mover that can fetch the beginnings of some ranges all at once, so that
// Move does not wait for one after another. It tells nobody of what it cannot fetch.
type Prefetcher interface {
	Prefetch(segs []remora.Seg)
}

// PrefetchSegs is the largest number of ranges that a Prefetcher is asked for.
const PrefetchSegs = 64

// Each moves every segment through m and keeps the whole contract but for what
// Gate.Admit does. Segments go in order, one Move at a time.
func Each(ctx context.Context, op remora.Op, segs []remora.Seg, m Mover) (int64, error) {
	b := budget{segs: ChunkSegs} // exhausted: look before the first chunk
	var ahead Prefetcher
	if len(segs) > 1 && op&remora.Write == 0 {
		ahead, _ = m.(Prefetcher)
	}
	for i := range segs {
		if ahead != nil && i%PrefetchSegs == 0 {
			ahead.Prefetch(segs[i:min(i+PrefetchSegs, len(segs))])
		}
		s := &segs[i]
		s.N, s.Err = 0, nil
		if len(s.Buf) == 0 {
			continue
		}
		if b.one(ctx, op, s, m); s.Err == nil {
			continue
		}
		if cut := Cut(ctx, s.Err); cut != nil {
			Abandon(segs, i+1, cut)
			break
		}
		if op&remora.StopAtFault != 0 {
			Abandon(segs, i+1, remora.ErrStopped)
			break
		}
	}
	return Finish(ctx, segs)
}

// budget counts what has been moved since the context was last looked at.
type budget struct{ bytes, segs int }

// look looks at the context if moving n more bytes would make the chunk too large.
func (b *budget) look(ctx context.Context, n int) error {
	if b.segs < ChunkSegs && b.bytes+n <= ChunkBytes {
		b.segs++
		b.bytes += n
		return nil
	}
	b.segs, b.bytes = 1, n
	return ctx.Err()
}

// one moves one segment that is not empty.
func (b *budget) one(ctx context.Context, op remora.Op, s *remora.Seg, m Mover) {
	buf := Reach(s.Addr, s.Buf)
	for s.N < len(buf) {
		a := s.Addr + remora.Addr(s.N)
		p := buf[s.N:]
		p = p[:min(len(p), ChunkBytes-int(a%ChunkBytes))]
		if s.Err = b.look(ctx, len(p)); s.Err != nil {
			return
		}
		n, err := m.Move(ctx, op, a, p)
		s.N += n
		if n < len(p) && (err != nil || n == 0) {
			if s.Err = err; err == nil {
				s.Err = remora.ErrFault
			}
			return
		}
	}
	if len(buf) < len(s.Buf) {
		s.Err = remora.ErrUnmapped
	}
}

// Cut gives the context's error if err, which ended a segment, says that the
// context cut the call short, else nil.
func Cut(ctx context.Context, err error) error {
	cut := ctx.Err()
	if cut != nil && (errors.Is(err, cut) || errors.Is(err, remora.ErrInDoubt)) {
		return cut
	}
	return nil
}

// Finish gives the results that rule 7 asks for. It sees from the segments
// whether the context cut the call short.
func Finish(ctx context.Context, segs []remora.Seg) (int64, error) {
	sum, first := Total(segs, nil)
	if first == nil || ctx.Err() == nil {
		return sum, first
	}
	for i := range segs {
		if cut := Cut(ctx, segs[i].Err); cut != nil {
			return sum, cut
		}
	}
	return sum, first
}
