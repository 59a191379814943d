// SPDX-License-Identifier: Apache-2.0

//go:build race

package proc

// raceEnabled says whether the race detector is on: everything is slower then.
const raceEnabled = true
