// SPDX-License-Identifier: Apache-2.0

// Package testneed is for tests that need what a system may lack: a kernel's ability, a
// program, root. Such a test is skipped there, and fails where REMORA_REQUIRE claims
// that everything is there.
package testneed

import (
	"os"
	"testing"
)

// All says whether everything is claimed to be there.
func All() bool { return os.Getenv("REMORA_REQUIRE") != "" }

// Lacks ends a test for want of something.
func Lacks(t testing.TB, why string) {
	t.Helper()
	if All() {
		t.Fatal(why)
	}
	t.Skip(why)
}

// Root wants the effective user to be root.
func Root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lacks(t, "needs root")
	}
}
