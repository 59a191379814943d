// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bufio"
	"os"
	"strconv"
	"strings"
)

// status is what opening needs of /proc/PID/status.
type status struct {
	tgid   int
	state  byte
	kernel bool // a kernel thread
}

// readStatus reads /proc/PID/status. It is there for threads too, under their own id.
func readStatus(pid int) (status, error) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return status{}, err
	}
	defer f.Close()
	st := status{kernel: true}
	for sc := bufio.NewScanner(f); sc.Scan(); {
		key, value, _ := strings.Cut(sc.Text(), ":")
		value = strings.TrimSpace(value)
		switch key {
		case "Tgid":
			st.tgid, _ = strconv.Atoi(value)
		case "State":
			if value != "" {
				st.state = value[0]
			}
		case "VmSize":
			st.kernel = false
		case "Kthread": // since Linux 6.10
			st.kernel = value == "1"
		}
	}
	if st.state == 'Z' || st.state == 'X' {
		st.kernel = false
	}
	return st, nil
}
