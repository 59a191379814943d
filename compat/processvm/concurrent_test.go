// SPDX-License-Identifier: Apache-2.0

package processvm

import (
	"bytes"
	"context"
	"sync"
	"testing"

	"github.com/remora-go/remora"
)

// Calls in both directions at once, over the same two memories, each with its own part of them.
func TestCallsRunSideBySide(t *testing.T) {
	both(t, func(t *testing.T, w *world) {
		const size = 3*ps + 100
		w.fill(w.remote, base, 64, rw)
		w.fill(w.local, localBase, 65, rw)
		ctx := context.Background()
		var wg sync.WaitGroup
		for i := range uint64(8) {
			wg.Go(func() {
				mine, theirs := localBase+i*8*ps, base+i*8*ps
				first, second := w.caller, w.target
				if i%2 == 1 {
					first, second, mine, theirs = second, first, theirs, mine
				}
				want := pattern(remora.Addr(theirs), size)
				got := make([]byte, size)
				for range 50 {
					n, e := w.sys.Readv(ctx, first, second.PID, one(mine, size), one(theirs, size), 0)
					if n != size || e != 0 {
						t.Errorf("%d, %s", n, e.Name())
					}
					n, e = w.sys.Writev(ctx, first, second.PID, one(mine, size), one(theirs+4*ps, size), 0)
					if n != size || e != 0 {
						t.Errorf("%d, %s", n, e.Name())
					}
					if _, err := second.Memory.ReadAt(ctx, got, remora.Addr(theirs+4*ps)); err != nil || !bytes.Equal(got, want) {
						t.Errorf("there and back, bytes are others: %v", err)
					}
				}
			})
		}
		wg.Go(func() { // and the table changes
			for range 200 {
				p := &Process{PID: 40, Threads: []int{41}, Memory: w.remote.Memory()}
				if err := w.sys.Set(p); err != nil {
					t.Error(err)
				}
				w.sys.Readv(ctx, w.caller, 41, one(localBase+64*ps, 8), one(base, 8), 0)
				w.sys.Remove(40)
			}
		})
		wg.Wait()
	})
}
