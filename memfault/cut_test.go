// SPDX-License-Identifier: Apache-2.0

package memfault_test

import (
	"context"
	"testing"
	"time"

	"github.com/remora-go/remora"
)

// hooked is a context that is over after so many looks by Err, and tells of Done.
type hooked struct {
	context.Context
	looks int
	asked chan struct{} // closed by the first Done, if not nil
}

func (c *hooked) Err() error {
	if c.looks--; c.looks < 0 {
		return context.Canceled
	}
	return c.Context.Err()
}

func (c *hooked) Done() <-chan struct{} {
	if c.asked != nil {
		close(c.asked)
		c.asked = nil
	}
	return c.Context.Done()
}

// TestWhatIsBehindACut: when the context ends between two segments, what a rule
// would have stopped behind them was not attempted.
func TestWhatIsBehindACut(t *testing.T) {
	_, space := memory(t, "read 0x1020-0x102f io")
	for looks, want := range []string{
		"0 context canceled: 0(context canceled) 0(context canceled) 0(context canceled)",
		"0 context canceled: 0(context canceled) 0(context canceled) 0(context canceled)",
		"10 context canceled: 10 0(context canceled) 0(context canceled)",
		"20 input/output error: 10 10 0(input/output error)",
	} {
		ctx := &hooked{Context: context.Background(), looks: looks}
		if got := results(ctx, space, remora.Read, 3); got != want {
			t.Errorf("the context ends after look %d:\n got %s\nwant %s", looks, got, want)
		}
	}
}

// TestCloseWaitsForADelay: a call that waits is a call that runs.
func TestCloseWaitsForADelay(t *testing.T) {
	_, space := memory(t, "delay 1000h")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	asked := make(chan struct{})
	called, closed := make(chan string, 1), make(chan error, 1)
	go func() {
		called <- results(&hooked{Context: ctx, looks: 1 << 30, asked: asked}, space, remora.Read, 1)
	}()
	<-asked
	go func() { closed <- space.Close() }()
	select {
	case err := <-closed:
		t.Errorf("Close returned while a call was waiting: %v", err)
		closed <- err
	case <-time.After(20 * time.Millisecond): // a Close that waits is never failed by this
	}
	cancel()
	if got, want := <-called, "0 context canceled: 0(context canceled)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
