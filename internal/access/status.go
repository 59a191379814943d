// SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Status is what of /proc/PID/status counts (proc_pid_status(5)). Process numbers and
// ids are as the reader of the file saw them.
type Status struct {
	Name      string // the command name
	State     byte   // R, S, D, T, t, Z, X, I
	PID       int    // of the task: a thread has its own
	Tgid      int    // of its process
	PPID      int    // of its parent process; 0: none in this pid namespace
	TracerPID int    // of the process that traces it, else 0
	UID, GID  IDs

	Permitted Caps
	Effective Caps
	Seccomp   int   // 0: none, 1: strict, 2: filter
	NSpid     []int // its number in each pid namespace, the reader's first
	Kthread   bool  // a kernel thread; known since Linux 6.9
	HasMemory bool  // it has an address space
}

// maxStatus is more than any kernel writes; NSpid and the like are bounded by 32 levels.
const maxStatus = 1 << 16

var errTooLong = errors.New("status: longer than 64 KiB")

// ParseStatus parses the text of /proc/PID/status. Fields that are not known are
// passed over; the process numbers, ids and capabilities must be there.
func ParseStatus(text []byte) (Status, error) {
	if len(text) > maxStatus {
		return Status{}, errTooLong
	}
	var s Status
	need := map[string]bool{"State": true, "Tgid": true, "Pid": true, "PPid": true, "Uid": true, "Gid": true, "CapPrm": true, "CapEff": true}
	for line := range bytes.Lines(text) {
		key, value, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":")
		if !ok {
			return Status{}, fmt.Errorf("status: no colon in %.40q", line)
		}
		if err := s.set(key, strings.TrimSpace(value)); err != nil {
			return Status{}, fmt.Errorf("status: %s: %w", key, err)
		}
		delete(need, key)
	}
	for key := range need {
		return Status{}, fmt.Errorf("status: no %s", key)
	}
	return s, nil
}

var (
	errNumbers = errors.New("too few numbers")
	errState   = errors.New("not a state")
)

func (s *Status) set(key, value string) (err error) {
	switch key {
	case "Name":
		s.Name = strings.NewReplacer(`\\`, `\`, `\n`, "\n").Replace(value)
	case "State":
		if value == "" {
			return errState
		}
		s.State = value[0]
	case "Pid":
		s.PID, err = strconv.Atoi(value)
	case "Tgid":
		s.Tgid, err = strconv.Atoi(value)
	case "PPid":
		s.PPID, err = strconv.Atoi(value)
	case "TracerPid":
		s.TracerPID, err = strconv.Atoi(value)
	case "Uid":
		s.UID, err = parseIDs(value)
	case "Gid":
		s.GID, err = parseIDs(value)
	case "CapPrm":
		s.Permitted, err = parseCaps(value)
	case "CapEff":
		s.Effective, err = parseCaps(value)
	case "Seccomp":
		s.Seccomp, err = strconv.Atoi(value)
	case "Kthread":
		s.Kthread = value == "1"
	case "VmSize": // task_mem in fs/proc/task_mmu.c writes it if and only if there is memory
		s.HasMemory = true
	case "NSpid":
		s.NSpid = nil
		for _, f := range strings.Fields(value) {
			n, err := strconv.Atoi(f)
			if err != nil {
				return err
			}
			s.NSpid = append(s.NSpid, n)
		}
	}
	return err
}

func parseIDs(value string) (IDs, error) {
	f := strings.Fields(value)
	if len(f) < 4 {
		return IDs{}, errNumbers
	}
	var n [4]uint32
	for i := range n {
		v, err := strconv.ParseUint(f[i], 10, 32)
		if err != nil {
			return IDs{}, err
		}
		n[i] = uint32(v)
	}
	return IDs{n[0], n[1], n[2], n[3]}, nil
}

func parseCaps(value string) (Caps, error) {
	v, err := strconv.ParseUint(value, 16, 64)
	return Caps(v), err
}
