// SPDX-License-Identifier: Apache-2.0

//go:build unix

package usercore_test

import (
	"errors"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/usercore"
)

// TestSpecialFiles opens what would block, or never end.
func TestSpecialFiles(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{fifo, "/dev/zero", "/dev/null"} {
		_, err := usercore.Open(path, nil)
		bad, ok := errors.AsType[*remora.FormatError](err)
		if !ok || bad.File != path || bad.Want != "a core file" || bad.Got != "a special file" || !errors.Is(err, remora.ErrUnrecognized) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
