// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"context"
	"sync"
	"sync/atomic"
)

// looker is a context that counts how often it is looked at, by Err or by Done,
// and ends by itself when it has been looked at too often. It can also hold a
// look, and with it the call that looks.
type looker struct {
	context.Context
	allow int64 // looks that find it running
	looks atomic.Int64
	once  sync.Once
	done  chan struct{}

	hold    int64         // the look to hold; 0: none
	held    chan struct{} // closed when it has come
	release chan struct{} // lets it go on when closed
}

// forever is an allow that never ends.
const forever = 1 << 62

func newLooker(allow int64) *looker {
	return &looker{Context: context.Background(), allow: allow, done: make(chan struct{})}
}

// newHolder gives a context that never ends and holds a look.
func newHolder(look int64) *looker {
	c := newLooker(forever)
	c.hold, c.held, c.release = look, make(chan struct{}), make(chan struct{})
	return c
}

func (c *looker) look() {
	n := c.looks.Add(1)
	if n == c.hold {
		close(c.held)
		<-c.release
	}
	if n > c.allow {
		c.once.Do(func() { close(c.done) })
	}
}

// Err looks.
func (c *looker) Err() error {
	c.look()
	return c.state()
}

// state is Err without looking.
func (c *looker) state() error {
	select {
	case <-c.done:
		return context.Canceled
	default:
		return nil
	}
}

// Done looks, too: the channel may be all that a Space asks.
func (c *looker) Done() <-chan struct{} {
	c.look()
	return c.done
}
