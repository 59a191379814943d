// SPDX-License-Identifier: Apache-2.0

// Command bench measures proc against a twin in C that makes the same system calls,
// in turns: each round runs both, so that what disturbs one disturbs the other. It
// prints, for each row, the medians of both in nanoseconds, the median of the
// ratios of the rounds with their quartiles, and what Go allocated for each call.
//
// Three rows of the twin alone are for calibration: a system call that does
// nothing, a copy of 16 MiB, the start of a process.
package main
