// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/specimen"
)

func TestMain(m *testing.M) {
	specimen.Main()
	os.Exit(m.Run())
}

func TestQuantile(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4, 0.25: 1.75} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

// The whole way for a row, briefly: what it measures is not looked at.
func TestRowsRun(t *testing.T) {
	p, err := newProcess()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(&out, p, 10, time.Millisecond, "8 bytes"); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "\n8 bytes"); n != 7 {
		t.Errorf("%d rows in\n%s", n, out.String())
	}
}
