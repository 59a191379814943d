// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"strconv"

	"github.com/remora-go/remora/internal/access"
)

// readStatus reads /proc/PID/status. It is there for threads too, under their own id.
func readStatus(pid int) (access.Status, error) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return access.Status{}, err
	}
	return access.ParseStatus(text)
}

// ended says whether the task is a zombie, or on the way out.
func ended(st access.Status) bool { return st.State == 'Z' || st.State == 'X' }

// kernelThread says whether the task is one of the kernel's own.
func kernelThread(st access.Status) bool { return st.Kthread || !st.HasMemory && !ended(st) }
