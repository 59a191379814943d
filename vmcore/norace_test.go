// SPDX-License-Identifier: Apache-2.0

//go:build !race

package vmcore

// RaceEnabled says whether the race detector is on: package vmcore_test asks too.
const RaceEnabled = false
