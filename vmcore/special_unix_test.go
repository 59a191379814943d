// SPDX-License-Identifier: Apache-2.0

//go:build linux || darwin || freebsd

package vmcore_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/vmcore"
)

// TestFIFO must not wait for a writer, and take no device.
func TestFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{path: "a FIFO", "/dev/null": "a special file"} {
		if _, err := vmcore.Open(path, nil); !errors.Is(err, remora.ErrUnrecognized) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
