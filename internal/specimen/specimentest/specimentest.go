// SPDX-License-Identifier: Apache-2.0

// Package specimentest makes specimens that last as long as a test.
package specimentest

import (
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/testneed"
)

// Start starts a process with known memory, which ends with the test.
func Start(t testing.TB, o *specimen.Options) *specimen.Specimen {
	t.Helper()
	s, err := specimen.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Layout maps pieces side by side. It ends the test where the system does not offer one.
func Layout(t testing.TB, s *specimen.Specimen, pieces ...specimen.Piece) []remora.Range {
	t.Helper()
	ranges, err := s.Layout(pieces...)
	if errors.Is(err, errors.ErrUnsupported) {
		testneed.Lacks(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return ranges
}
