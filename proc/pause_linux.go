// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"sync"
)

// pause is stop for users: resume may be called more than once, from any goroutine,
// and after the process has died or the tracer been closed; it ends this pause only.
// The errors are those of stop.
func (t *tracer) pause(ctx context.Context) (resume func() error, err error) {
	if err := t.stop(ctx); err != nil {
		return nil, err
	}
	return sync.OnceValue(t.resume), nil
}
