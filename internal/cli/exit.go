// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
)

// outcome is how the command ended.
type outcome struct {
	code int
	kind string // for --json
	what string // for help
}

// The outcomes, one for each exit code.
var (
	done        = outcome{0, "done", "done"}
	failed      = outcome{1, "failed", "failed, nothing found, or differs"}
	usage       = outcome{2, "usage", "the command was called wrongly"}
	notFound    = outcome{3, "not-found", "no such target, or it is gone"}
	notAllowed  = outcome{4, "permission", "not permitted"}
	missing     = outcome{5, "missing", "a requested byte is missing"}
	badFormat   = outcome{6, "format", "unknown or damaged format"}
	timedOut    = outcome{124, "timeout", "the time given by --timeout is over"}
	interrupted = outcome{130, "interrupted", "interrupted by Ctrl-C"}
)

func outcomes() []outcome {
	return []outcome{done, failed, usage, notFound, notAllowed, missing, badFormat, timedOut, interrupted}
}

// usageError is a mistake of the caller.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error {
	return &usageError{fmt.Sprintf(format, args...)}
}

// openError marks an error of opening a target.
type openError struct{ err error }

func (e *openError) Error() string { return e.err.Error() }
func (e *openError) Unwrap() error { return e.err }

// fileError is trouble with a file or stream that is no target.
type fileError struct {
	act string // "write", "read"
	err error
}

func (e *fileError) Error() string { return e.act + " " + e.err.Error() }
func (e *fileError) Unwrap() error { return e.err }

// judge gives the outcome that an error stands for. Where several errors are joined
// the gravest decides, in this order.
func judge(ctx context.Context, err error) outcome {
	var (
		bad    *usageError
		spec   *target.SpecError
		file   *fileError
		denied *remora.AccessError
		format *remora.FormatError
		fault  *remora.Fault
		opened *openError
	)
	opening := errors.As(err, &opened)
	missed := errors.As(err, &fault) && errors.Is(fault, remora.ErrFault)
	switch {
	case err == nil:
		return done
	case ended(ctx, err):
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return timedOut
		}
		return interrupted
	case errors.As(err, &bad), errors.As(err, &spec) && spec.Err == nil:
		return usage
	case errors.As(err, &file):
		return failed
	case unknownKernel(err, missed):
		return badFormat
	case errors.Is(err, remora.ErrGone), opening && errors.Is(err, fs.ErrNotExist):
		return notFound
	case errors.As(err, &denied), errors.Is(err, remora.ErrReadOnly), opening && errors.Is(err, fs.ErrPermission):
		return notAllowed
	case missed:
		return missing
	case errors.As(err, &format), errors.Is(err, remora.ErrUnrecognized):
		return badFormat
	case errors.Is(err, remora.ErrFault):
		return missing
	}
	return failed
}

// unknownKernel says whether err is there because nothing is known of a kernel. A byte
// that was asked for by its address, and is missed for want of page tables, is a missing byte.
func unknownKernel(err error, missed bool) bool {
	var (
		tables  *kernel.TablesError
		symbols *kernel.NoSymbolsError
		types   *kernel.NoTypesError
	)
	return errors.As(err, &tables) && !missed || errors.As(err, &symbols) || errors.As(err, &types)
}

// ended says whether err is there because ctx has ended.
func ended(ctx context.Context, err error) bool {
	if ctx == nil || ctx.Err() == nil {
		return false
	}
	return errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)) ||
		errors.Is(err, remora.ErrBusy) || errors.Is(err, remora.ErrInDoubt)
}
