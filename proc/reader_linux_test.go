// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/testneed"
)

// report is what a reader, a process of its own, found.
type report struct {
	Door, Fact     string // in use at the end, and what Describe says of it
	Data           []byte
	Err            string
	Denied         bool // Err is a *remora.AccessError
	Reason, Remedy string
}

// readJob opens the process args[0], reads args[2] bytes at args[1] and reports. With
// a further argument it first reads, and then has a filter refuse process_vm_*.
func readJob(out io.Writer, args []string) error {
	var n [3]uint64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseUint(args[i], 10, 64); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(readAs(int(n[0]), remora.Addr(n[1]), int(n[2]), len(args) > 3))
}

func readAs(pid int, a remora.Addr, size int, filterLate bool) (rep report) {
	ctx := context.Background()
	p, err := Open(pid, nil)
	if err == nil {
		defer p.Close()
		rep.Data = make([]byte, size)
		_, err = p.Memory().ReadAt(ctx, rep.Data, a)
	}
	if filterLate && err == nil {
		if errno := linux.RefuseVM(linux.EPERM); errno != 0 {
			return report{Err: errno.Error()}
		}
		clear(rep.Data)
		_, err = p.Memory().ReadAt(ctx, rep.Data, a)
	}
	if p != nil {
		rep.Door = Door(p.door.Load()).String()
		facts, _ := p.Describe(ctx)
		for _, f := range facts {
			if f.Key == "door" {
				rep.Fact = f.Value
			}
		}
	}
	if err != nil {
		var denied *remora.AccessError
		rep.Err = err.Error()
		if rep.Denied = errors.As(err, &denied) && errors.Is(err, fs.ErrPermission); rep.Denied {
			rep.Reason, rep.Remedy = denied.Reason, denied.Remedy
		}
	}
	return rep
}

func runReader(t *testing.T, o *specimen.RunOptions, s *specimen.Specimen, r remora.Range, more ...string) (rep report) {
	t.Helper()
	args := append([]string{strconv.Itoa(s.Pid()), strconv.FormatUint(uint64(r.Start), 10), strconv.FormatUint(r.Size, 10)}, more...)
	out, err := specimen.Run(t.Context(), o, "read", args...)
	if err == nil {
		err = json.Unmarshal([]byte(out), &rep)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rep
}

const (
	userA, userB = 4321, 4322
	capNetRaw    = 13
	capPtrace    = 19
)

func user(id uint32, capabilities ...uintptr) *specimen.Identity {
	return &specimen.Identity{UID: id, GID: id, Capabilities: capabilities}
}

// Where the kernel or a filter has no process_vm_*, another door is taken, and it
// is said why.
func TestFiltersOfProcessVM(t *testing.T) {
	testneed.Root(t)
	s := specimentest.Start(t, &specimen.Options{As: user(userA)})
	r := mapped(t, s, specimen.Touched, 3)
	want := s.Contents(specimen.Touched, r)
	for name, row := range map[string]struct {
		o          specimen.RunOptions
		late       []string
		door, fact string
	}{
		"no filter":            {door: "process_vm", fact: "process_vm_readv and process_vm_writev"},
		"EPERM":                {o: specimen.RunOptions{RefuseVM: int(linux.EPERM)}, door: "proc-mem", fact: "a seccomp filter forbids process_vm_readv, even for our own process"},
		"EACCES":               {o: specimen.RunOptions{RefuseVM: int(linux.EACCES)}, door: "proc-mem", fact: "a seccomp filter forbids process_vm_readv"},
		"ENOSYS":               {o: specimen.RunOptions{RefuseVM: int(linux.ENOSYS)}, door: "proc-mem", fact: "has no process_vm_readv (ENOSYS)"},
		"EPERM, as the user":   {o: specimen.RunOptions{As: user(userA), RefuseVM: int(linux.EPERM)}, door: "proc-mem", fact: "a seccomp filter forbids"},
		"later":                {late: []string{"late"}, door: "proc-mem", fact: "/proc/PID/mem"},
		"CAP_SYS_PTRACE alone": {o: specimen.RunOptions{As: user(userB, capPtrace)}, door: "process_vm", fact: "process_vm_readv"},
		"and a filter": {o: specimen.RunOptions{As: user(userB, capPtrace), RefuseVM: int(linux.EPERM)}, door: "ptrace",
			fact: "/proc/PID/mem cannot be opened"},
	} {
		t.Run(name, func(t *testing.T) {
			rep := runReader(t, &row.o, s, r, row.late...)
			if rep.Err != "" || !bytes.Equal(rep.Data, want) {
				t.Errorf("read %d bytes, %s", len(rep.Data), rep.Err)
			}
			if rep.Door != row.door || !strings.Contains(rep.Fact, row.fact) {
				t.Errorf("door %s: %s", rep.Door, rep.Fact)
			}
		})
	}
}

// A refusal says which rule refused; a filter beside it is not blamed for it.
func TestRefusals(t *testing.T) {
	testneed.Root(t)
	for name, row := range map[string]struct {
		target         *specimen.Identity
		prepare        func(*specimen.Specimen) error
		reader         *specimen.Identity
		reason, remedy string // no reason: it is allowed
	}{
		"same user":       {target: user(userA), reader: user(userA)},
		"root":            {target: user(userA)},
		"CAP_SYS_PTRACE":  {target: user(userA), reader: user(userB, capPtrace)},
		"another user":    {target: user(userA), reader: user(userB), reason: "uid 4322 and gid 4322 do not equal", remedy: "cap_sys_ptrace"},
		"another group":   {target: user(userA), reader: &specimen.Identity{UID: userA, GID: userB}, reason: "gid 4322 do not equal", remedy: "cap_sys_ptrace"},
		"root's":          {reader: user(userA), reason: "do not equal all of the target's uid 0/0/0", remedy: "cap_sys_ptrace"},
		"not dumpable":    {target: user(userA), reader: user(userA), prepare: dumpable(false), reason: "dumpable", remedy: "PR_SET_DUMPABLE, 1"},
		"dumpable again":  {target: user(userA), reader: user(userA), prepare: func(s *specimen.Specimen) error { return errors.Join(dumpable(false)(s), dumpable(true)(s)) }},
		"more capable":    {target: user(userA, capNetRaw), reader: user(userA), reason: "cap_net_raw", remedy: "cap_sys_ptrace"},
		"as capable":      {target: user(userA, capNetRaw), reader: user(userA, capNetRaw)},
		"left by setuid":  {prepare: become, reader: user(userA), reason: "dumpable", remedy: "PR_SET_DUMPABLE, 1"},
		"setuid, execve":  {prepare: func(s *specimen.Specimen) error { return errors.Join(become(s), s.Exec()) }, reader: user(userA)},
		"setuid, dumped":  {prepare: func(s *specimen.Specimen) error { return errors.Join(become(s), s.Dumpable(true)) }, reader: user(userA)},
		"undumpable root": {target: user(userA), prepare: dumpable(false)},
	} {
		t.Run(name, func(t *testing.T) {
			s := specimentest.Start(t, &specimen.Options{As: row.target})
			if row.prepare != nil {
				if err := row.prepare(s); err != nil {
					t.Fatal(err)
				}
			}
			r := mapped(t, s, specimen.Touched, 1)
			for _, filter := range []unix.Errno{0, unix.EPERM} {
				rep := runReader(t, &specimen.RunOptions{As: row.reader, RefuseVM: int(filter)}, s, r)
				switch {
				case row.reason == "" && (rep.Err != "" || !bytes.Equal(rep.Data, s.Contents(specimen.Touched, r))):
					t.Errorf("filter %d: read %d bytes, %s", filter, len(rep.Data), rep.Err)
				case row.reason == "":
				case !rep.Denied || !strings.Contains(rep.Reason, row.reason) || !strings.Contains(rep.Remedy, row.remedy):
					t.Errorf("filter %d: denied: %v: %s", filter, rep.Denied, rep.Err)
				case !strings.Contains(rep.Err, fmt.Sprintf("pid %d: not permitted to read the memory of it: ", s.Pid())):
					t.Errorf("filter %d: %s", filter, rep.Err)
				}
			}
		})
	}
}

func dumpable(on bool) func(*specimen.Specimen) error {
	return func(s *specimen.Specimen) error { return s.Dumpable(on) }
}

func become(s *specimen.Specimen) error { return s.Become(userA, userA) }
