// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"sync"
	"sync/atomic"
)

// once keeps the answer to a question, also where that is an error. That a context ended
// is no answer: the next one asks again.
type once[T any] struct {
	mu     sync.Mutex
	answer atomic.Pointer[answer[T]]
}

type answer[T any] struct {
	value T
	err   error
}

func (o *once[T]) do(ctx context.Context, ask func(context.Context) (T, error)) (T, error) {
	if a := o.answer.Load(); a != nil {
		return a.value, a.err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if a := o.answer.Load(); a != nil {
		return a.value, a.err
	}
	v, err := ask(ctx)
	if err != nil && ctx.Err() != nil {
		return v, ctx.Err()
	}
	o.answer.Store(&answer[T]{v, err})
	return v, err
}

// forget has the question asked again.
func (o *once[T]) forget() { o.answer.Store(nil) }

// known says whether there is an answer.
func (o *once[T]) known() bool { return o.answer.Load() != nil }

// kept gives the answer if there is one, and it is no error. It asks nothing.
func (o *once[T]) kept() (value T, ok bool) {
	if a := o.answer.Load(); a != nil && a.err == nil {
		return a.value, true
	}
	return value, false
}
