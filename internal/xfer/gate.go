// SPDX-License-Identifier: Apache-2.0

package xfer

import (
	"sync"
	"sync/atomic"

	"github.com/remora-go/remora"
)

// Gate counts the calls inside a Space, so that Close can wait for them. The zero
// Gate is open.
type Gate struct {
	state atomic.Int64 // calls inside, resting for each that rests instead, closing once Close has begun
	once  sync.Once
	empty chan struct{} // made by Close; closed by the last call to leave
	mu    sync.Mutex
}

const (
	resting = 1 << 31
	closing = 1 << 62
)

// Enter lets a call in. It gives false, and lets nobody in, once Close has begun.
func (g *Gate) Enter() bool {
	if g.state.Add(1) < closing {
		return true
	}
	g.Leave()
	return false
}

// Leave ends what Enter began.
func (g *Gate) Leave() {
	if g.state.Add(-1) == closing {
		g.once.Do(func() { close(g.drained()) })
	}
}

// Admit lets a call in, or gives the error with which it must be refused whole (see
// Refusal and Refuse). After nil the call must end with Leave.
func (g *Gate) Admit(op, ops remora.Op, writable bool) error {
	open := g.Enter()
	err := Refusal(op, ops, writable, open)
	if open && err != nil {
		g.Leave()
	}
	return err
}

// Rest says that a call which is inside does nothing, until Wake: it waits for who takes what
// it has found. Close waits for it still.
func (g *Gate) Rest() { g.state.Add(resting - 1) }

// Wake ends what Rest began.
func (g *Gate) Wake() { g.state.Add(1 - resting) }

// Inside gives the number of calls inside that do not rest.
func (g *Gate) Inside() int { return int(g.state.Load() & (resting - 1)) }

// Closed says whether Close has begun.
func (g *Gate) Closed() bool { return g.state.Load() >= closing }

// Close lets no new call in, waits until those inside have left, and says
// whether it was the first to do so: that one frees what the calls used.
func (g *Gate) Close() (first bool) {
	for {
		old := g.state.Load()
		if old >= closing {
			<-g.drained()
			return false
		}
		if g.state.CompareAndSwap(old, old+closing) {
			if old == 0 {
				g.once.Do(func() { close(g.drained()) })
			}
			<-g.drained()
			return true
		}
	}
}

func (g *Gate) drained() chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.empty == nil {
		g.empty = make(chan struct{})
	}
	return g.empty
}
