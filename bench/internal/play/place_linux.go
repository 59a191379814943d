// SPDX-License-Identifier: Apache-2.0

package play

import (
	"runtime"
	"strconv"

	"github.com/remora-go/remora/internal/sys/linux"
)

// place binds the caller to a thread, and that to a processor; or to none when none is named.
func place(cpu string) (string, error) {
	if cpu == "" {
		err := linux.Place(linux.ThreadID())
		runtime.UnlockOSThread()
		return "anywhere", err
	}
	n, err := strconv.Atoi(cpu)
	if err != nil {
		return "", err
	}
	runtime.LockOSThread()
	return cpu, linux.Place(linux.ThreadID(), n)
}
