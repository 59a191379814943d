// SPDX-License-Identifier: Apache-2.0

package memtest

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"testing"
)

// Every seed lays out all kinds of pages anew and takes another part of the cases;
// the first one takes them all. The slow builds, under the race detector and in an
// emulator, take fewer seeds, and only a part of the first: what they look for is
// not in the layout.
func TestSparseKeepsTheContract(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // fixtures are large, and garbage at once
	for seed := range uint64(seeds()) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			want := NewSample(seed).Want
			if seed > 0 || slowBuild() {
				want.Part, want.Chunk = seed+1, sparseChunk
			}
			TestSpace(t, func(testing.TB) Fixture { return NewSample(seed).Fixture }, want)
		})
	}
}

func seeds() int {
	if slowBuild() {
		return 12
	}
	return 100
}

func slowBuild() bool { return raceEnabled || runtime.GOARCH == "s390x" }
