// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"github.com/remora-go/remora"
)

// The fields of /proc/PID/stat that matter here, counted from the state, which is
// field 3 of proc_pid_stat(5).
const (
	statPPID = 1 + iota
	statPGID
	statSID
	statFlags    = 6
	statStart    = 19
	statArgStart = 45 // since Linux 3.5, as the next three; 0 for who may not know
	statArgEnd   = 46
	statEnvStart = 47
	statEnvEnd   = 48
)

// kernelThread is PF_KTHREAD (include/linux/sched.h).
const kernelThread = 0x00200000

// parseStat takes the text of /proc/PID/stat apart (do_task_stat in the kernel's
// fs/proc/array.c). The name may hold anything, parentheses and spaces too, so it
// ends at the last parenthesis.
func parseStat(file string, b []byte) (*Proc, error) {
	bad := func(got string) (*Proc, error) {
		return nil, &remora.FormatError{File: file, Want: "the fields of /proc/PID/stat", Got: got, Err: remora.ErrCorrupt}
	}
	open, end := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if open < 1 || end < open {
		return bad(strconv.Quote(string(b[:min(len(b), 40)])))
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(b[:open])))
	fields := bytes.Fields(b[end+1:])
	if err != nil || len(fields) <= statStart || len(fields[0]) != 1 {
		return bad(fmt.Sprintf("%d fields behind the name", len(fields)))
	}
	if len(fields) <= statEnvEnd { // an older kernel, or one that is made up: qemu-user's
		fields = append(fields[:min(len(fields), statArgStart)], slices.Repeat([][]byte{{'0'}}, statEnvEnd)...)
	}
	n := numbers{fields: fields}
	p := &Proc{
		PID:     pid,
		PPID:    int(n.signed(statPPID)),
		PGID:    int(n.signed(statPGID)),
		SID:     int(n.signed(statSID)),
		Command: string(b[open+1 : end]),
		State:   fields[0][0],
		System:  n.unsigned(statFlags)&kernelThread != 0,
		Start:   n.unsigned(statStart),
		User: User{
			ArgStart: remora.Addr(n.unsigned(statArgStart)),
			ArgEnd:   remora.Addr(n.unsigned(statArgEnd)),
			EnvStart: remora.Addr(n.unsigned(statEnvStart)),
			EnvEnd:   remora.Addr(n.unsigned(statEnvEnd)),
		},
	}
	if n.bad != "" {
		return bad(n.bad)
	}
	return p, nil
}

// numbers reads fields, and keeps the first that is none.
type numbers struct {
	fields [][]byte
	bad    string
}

func (n *numbers) unsigned(i int) uint64 {
	v, err := strconv.ParseUint(string(n.fields[i]), 10, 64)
	n.check(i, err)
	return v
}

func (n *numbers) signed(i int) int64 {
	v, err := strconv.ParseInt(string(n.fields[i]), 10, 32)
	n.check(i, err)
	return v
}

func (n *numbers) check(i int, err error) {
	if err != nil && n.bad == "" {
		n.bad = strconv.Quote(string(n.fields[i]))
	}
}
