// SPDX-License-Identifier: Apache-2.0

//go:build !peers

package main

import (
	"errors"

	"github.com/remora-go/remora/bench/internal/report"
)

// drawn is what this program cannot do: it was built without the library that draws.
func drawn(*report.Figure) ([]byte, error) {
	return nil, errors.New("no figures without the library that draws them: go run -modfile=peers.mod -tags peers ./bench")
}
