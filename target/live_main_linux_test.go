// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"os"
	"slices"
	"testing"

	"github.com/remora-go/remora/internal/specimen"
)

func TestMain(m *testing.M) {
	specimen.Main()
	os.Exit(m.Run())
}

// inside is the argument of a test that runs in a guest.
const inside = "inside"

// isInside says whether this is a guest, where the program of these tests was carried.
func isInside() bool { return slices.Contains(os.Args, inside) }
