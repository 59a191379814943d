// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// progress is a line on a terminal that says how far a long job is. It comes after a
// second, and goes when the job is done.
type progress struct {
	w     io.Writer
	what  string
	begun time.Time

	mu    sync.Mutex
	last  time.Time
	shown bool
}

const (
	progressAfter = time.Second
	progressEvery = 200 * time.Millisecond
)

// progress begins a job; it gives nil where there is no terminal to show it on.
func (v *invocation) progress(what string) *progress {
	f, ok := v.io.Err.(*os.File)
	if !ok || v.json || v.io.Getenv("TERM") == "dumb" || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return &progress{w: f, what: what, begun: time.Now()}
}

// amount says that so many bytes of all are done.
func (p *progress) amount(done, total uint64) {
	if p == nil {
		return
	}
	p.show(func(now time.Time) string {
		percent := uint64(100)
		if total > 0 {
			percent = uint64(float64(done) / float64(total) * 100)
		}
		rate := float64(done) / (1 << 20) / now.Sub(p.begun).Seconds()
		return fmt.Sprintf("%s: %d %% of %d MiB, %.0f MiB/s", p.what, percent, total>>20, rate)
	})
}

// found says how many there are so far, of a job whose length is not known.
func (p *progress) found(n int, of string) {
	if p == nil {
		return
	}
	p.show(func(now time.Time) string {
		return fmt.Sprintf("%s: %d %s after %d s", p.what, n, of, int(now.Sub(p.begun).Seconds()))
	})
}

func (p *progress) show(text func(now time.Time) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if now.Sub(p.begun) < progressAfter || now.Sub(p.last) < progressEvery {
		return
	}
	p.last, p.shown = now, true
	fmt.Fprintf(p.w, "\r\x1b[K%s", strings.TrimSpace(harmless(text(now))))
}

// end takes the line away.
func (p *progress) end() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	p.shown = false
}
