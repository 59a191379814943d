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

// inHuge asks for huge pages of a size under b, which has not been touched, and gives where
// the first of them begins.
func inHuge(b []byte, size uint64) uint64 {
	at := -linux.AddressOf(b) % size
	linux.Advise(linux.AddressOf(b)+at, uint64(len(b))/size*size-size, linux.AdviseHugePage) // it may know none
	return at
}
