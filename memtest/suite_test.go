// SPDX-License-Identifier: Apache-2.0

package memtest_test

import (
	"fmt"
	"testing"

	"github.com/remora-go/remora/memtest"
)

func TestSparseKeepsTheContract(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			memtest.TestSpace(t, func(testing.TB) memtest.Fixture { return memtest.NewSample(seed).Fixture }, memtest.NewSample(seed).Want)
		})
	}
}
