// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/xfer"
)

// slow reads guest memory through QEMU itself: with "pmemsave" into a file in memory that
// is sent along, whose name there is that of the descriptor; where that is refused, with
// "xp", which prints numbers. Its addresses are physical.
type slow struct {
	q       *QEMU
	retreat xfer.Retreat

	mu   sync.Mutex // of one read
	file *os.File   // what pmemsave writes; nil: xp it is
	name string     // of the file in QEMU
	set  int        // of descriptors, in QEMU
	lack error      // why there is no file
}

var (
	_ remora.Space = (*slow)(nil)
	_ xfer.Whole   = (*slow)(nil)
)

// newSlow gives what reads through QEMU, once prepare has been called.
func newSlow(q *QEMU) *slow {
	s := &slow{q: q}
	s.retreat = xfer.Retreat{Whole: s, Granule: 4096}
	return s
}

// Info gives the facts of the guest.
func (s *slow) Info() remora.Info { return s.q.info }

// Transfer reads segs.
func (s *slow) Transfer(ctx context.Context, op remora.Op, segs []remora.Seg) (int64, error) {
	return xfer.Each(ctx, op, segs, &s.retreat)
}

// Whole reads all of buf, of memory that is in the layout.
func (s *slow) Whole(ctx context.Context, _ remora.Op, a remora.Addr, buf []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.file != nil {
		err = s.save(ctx, a, buf)
	} else {
		err = s.print(ctx, a, buf)
	}
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case s.q.isGone():
		return remora.ErrGone
	}
	return remora.ErrIO
}

// prepare finds out which of the two ways there is.
func (s *slow) prepare(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lack = s.begin(ctx)
}

// begin sends QEMU the file, and sees whether it can write it.
func (s *slow) begin(ctx context.Context) error {
	f, err := memoryFile("remora-guest")
	if err != nil {
		return err
	}
	var set struct {
		FD  int `json:"fd"`
		Set int `json:"fdset-id"`
	}
	if err := s.q.executeFile(ctx, f, "add-fd", nil, &set); err != nil {
		f.Close()
		return err
	}
	s.file, s.set, s.name = f, set.Set, fmt.Sprintf("/proc/self/fd/%d", set.FD)
	var probe [1]byte
	if err = s.save(ctx, remora.Addr(s.q.layout.Load().ram()), probe[:]); err != nil {
		s.end(ctx)
	}
	return err
}

// save reads with pmemsave.
func (s *slow) save(ctx context.Context, a remora.Addr, buf []byte) error {
	args := map[string]any{"val": uint64(a), "size": len(buf), "filename": s.name}
	if err := s.q.execute(ctx, "pmemsave", args, nil); err != nil {
		return err
	}
	if n, err := s.file.ReadAt(buf, 0); n < len(buf) {
		return fmt.Errorf("%s: pmemsave gave %d of %d bytes: %w", s.q.name(), n, len(buf), err)
	}
	return nil
}

// print reads with xp.
func (s *slow) print(ctx context.Context, a remora.Addr, buf []byte) error {
	const most = 4096 // bytes at once
	for len(buf) > 0 {
		n := min(len(buf), most)
		text, err := s.q.hmp(ctx, fmt.Sprintf("xp /%dxb 0x%x", n, uint64(a)))
		if err != nil {
			return err
		}
		if err := parseBytes(text, buf[:n]); err != nil {
			return fmt.Errorf("%s: xp at %v: %w", s.q.name(), a, err)
		}
		buf, a = buf[n:], a+remora.Addr(n)
	}
	return nil
}

// parseBytes fills buf from what xp prints: lines of "ADDRESS: 0x01 0x02...".
func parseBytes(text string, buf []byte) error {
	n := 0
	for line := range strings.Lines(text) {
		_, numbers, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		for _, word := range strings.Fields(numbers) {
			digits, ok := strings.CutPrefix(word, "0x")
			if !ok || len(digits) != 2 || n == len(buf) {
				return fmt.Errorf("QEMU printed %q", strings.TrimSpace(line))
			}
			if _, err := hex.Decode(buf[n:n+1], []byte(digits)); err != nil {
				return fmt.Errorf("QEMU printed %q", strings.TrimSpace(line))
			}
			n++
		}
	}
	if n < len(buf) {
		return fmt.Errorf("QEMU printed %d of %d bytes", n, len(buf))
	}
	return nil
}

// end takes back what begin gave QEMU.
func (s *slow) end(ctx context.Context) {
	if s.file == nil {
		return
	}
	_ = s.q.execute(ctx, "remove-fd", map[string]int{"fdset-id": s.set}, nil)
	s.file.Close()
	s.file = nil
}

// close ends a slow that may be nil, before the connection is.
func (s *slow) close(q *QEMU) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(context.Background())
}

// text says how it reads.
func (s *slow) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file != nil {
		return "through QMP: pmemsave, at some 300 MB/s"
	}
	return "through QMP: xp, at about 2 MB/s (no pmemsave: " + s.lack.Error() + ")"
}
