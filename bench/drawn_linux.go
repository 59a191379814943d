// SPDX-License-Identifier: Apache-2.0

//go:build peers

package main

import (
	"github.com/remora-go/remora/bench/internal/draw"
	"github.com/remora-go/remora/bench/internal/report"
)

// drawn gives a figure as SVG.
func drawn(f *report.Figure) ([]byte, error) { return draw.SVG(f) }
