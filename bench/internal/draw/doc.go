// SPDX-License-Identifier: Apache-2.0

// Package draw draws the figures of the benchmark's report as SVG, with a library that the
// tag peers and peers.mod bring. Without the tag there is nothing in it.
package draw
