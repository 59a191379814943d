// SPDX-License-Identifier: Apache-2.0

package target

import (
	"os"
	"testing"
)

func TestPID(t *testing.T) {
	for spec, want := range map[string]int{"1": 1, "pid:42": 42, "self": os.Getpid(), "2147483647": 1<<31 - 1} {
		if pid, ok := PID(spec); !ok || pid != want {
			t.Errorf("%s: %d, %v", spec, pid, ok)
		}
	}
	for _, spec := range []string{"", "pid:", "pid:-1", "-1", "0x10", "core:1", "1a", "2147483648", "99999999999999999999999"} {
		if pid, ok := PID(spec); ok {
			t.Errorf("%q: %d", spec, pid)
		}
	}
}
