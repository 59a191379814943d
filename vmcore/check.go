// SPDX-License-Identifier: Apache-2.0

package vmcore

import (
	"bytes"
	"context"
	"runtime"
	"sync"

	"github.com/remora-go/remora"
)

// reporter takes what Image.Check finds.
type reporter struct {
	mu     sync.Mutex // held while report runs
	report func(*remora.FormatError)
}

// found reports, one call at a time.
func (r *reporter) found(bad *remora.FormatError) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.report(bad)
}

// checker goes through a file for Image.Check.
type checker struct {
	reporter
	ctx context.Context
	src *source
}

// checkPiece is how much is read at once.
const checkPiece = 1 << 20

// differ compares n bytes at two places of the file, and gives the index of the first
// that are not the same. What cannot be read is left to readAll.
func (c *checker) differ(a, b int64, n uint64) (int64, bool) {
	if a == b {
		return 0, false
	}
	var x, y [4096]byte
	for at := int64(0); uint64(at) < n && c.ctx.Err() == nil; {
		size := min(n-uint64(at), uint64(len(x)))
		k, err := c.src.read(x[:size], a+at)
		m, err2 := c.src.read(y[:size], b+at)
		k = min(k, m)
		if !bytes.Equal(x[:k], y[:k]) {
			for i := range k {
				if x[i] != y[i] {
					return at + int64(i), true
				}
			}
		}
		if err != nil || err2 != nil {
			break
		}
		at += int64(size)
	}
	return 0, false
}

// stretch is a run of bytes of the file.
type stretch struct {
	off  int64
	size int
}

// readAll reads all saved bytes, on all processors, and reports what cannot be read.
func (c *checker) readAll(table []piece) error {
	work := make(chan stretch)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			buf := make([]byte, checkPiece)
			for s := range work {
				c.readOne(buf[:s.size], s.off)
			}
		})
	}
	c.hand(table, work)
	close(work)
	wg.Wait()
	return c.ctx.Err()
}

// hand cuts the saved pieces up for the workers, until the context ends.
func (c *checker) hand(table []piece, work chan<- stretch) {
	for i := range table {
		p := &table[i]
		if p.cause != 0 {
			continue
		}
		size := uint64(p.last-p.first) + 1
		for at := uint64(0); at < size; at += checkPiece {
			select {
			case work <- stretch{p.off + int64(at), int(min(size-at, checkPiece))}:
			case <-c.ctx.Done():
				return
			}
		}
	}
}

func (c *checker) readOne(buf []byte, off int64) {
	if err := c.src.fill(buf, off, "memory"); err != nil {
		c.found(err.(*remora.FormatError))
	}
}
