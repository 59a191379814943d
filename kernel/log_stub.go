// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"iter"
	"time"
)

// LogRecord is a stub.
type LogRecord struct {
	Time time.Duration
	Text string
}

// Log is a stub.
func (k *Kernel) Log(ctx context.Context) iter.Seq2[LogRecord, error] {
	return func(func(LogRecord, error) bool) {}
}
