// SPDX-License-Identifier: Apache-2.0

//go:build linux

package kvm_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/vmlab"
)

// TestRealKVMExample runs the example on a real image.
func TestRealKVMExample(t *testing.T) {
	lab := vmlab.Open(t, vmlab.Machines()[0])
	t.Setenv("VMCORE", lab.Dump(vmlab.ELF))
	t.Setenv("SWAP", lab.Dump(vmlab.Swap))
	name := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	stdout := os.Stdout
	os.Stdout = f
	Example_image()
	os.Stdout = stdout
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	version, _, _ := strings.Cut(string(lab.Truth().File("proc/version")), "\n")
	lines := strings.Split(string(got), "\n")
	if lines[0] != version || len(lines) < 20 || !strings.HasPrefix(lines[1], "1 0 ") || !strings.Contains(string(got), `["[kthreadd]"]`) {
		t.Errorf("%s", got)
	}
}
