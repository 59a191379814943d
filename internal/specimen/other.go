// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package specimen

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/remora-go/remora"
)

var errSystem = fmt.Errorf("specimen: on %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Specimen is a process with known memory. On this system there is none.
type Specimen struct{}

// Main returns.
func Main(...Job) {}

// Run gives an error that Is errors.ErrUnsupported.
func Run(context.Context, *RunOptions, string, ...string) (string, error) { return "", errSystem }

// Start gives an error that Is errors.ErrUnsupported.
func Start(context.Context, *Options) (*Specimen, error) { return nil, errSystem }

// Pid gives 0.
func (s *Specimen) Pid() int { return 0 }

// Map gives an error that Is errors.ErrUnsupported.
func (s *Specimen) Map(Kind, int) (remora.Range, error) { return remora.Range{}, errSystem }

// Layout gives an error that Is errors.ErrUnsupported.
func (s *Specimen) Layout(...Piece) ([]remora.Range, error) { return nil, errSystem }

// Contents gives nil.
func (s *Specimen) Contents(Kind, remora.Range) []byte { return nil }

// Peek gives an error that Is errors.ErrUnsupported.
func (s *Specimen) Peek([]byte, remora.Addr) error { return errSystem }

// Sum gives an error that Is errors.ErrUnsupported.
func (s *Specimen) Sum(remora.Range) (uint64, error) { return 0, errSystem }

// Dumpable gives an error that Is errors.ErrUnsupported.
func (s *Specimen) Dumpable(bool) error { return errSystem }

// Close does nothing.
func (s *Specimen) Close() error { return nil }
