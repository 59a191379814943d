// SPDX-License-Identifier: Apache-2.0

package specimen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/remora-go/remora/internal/sys/linux"
)

// roleEnv says, in the environment of a process that this package starts, what it
// is to be: roleServe and a seed, or roleJob, the number of an error, and a name.
const (
	roleEnv   = "REMORA_SPECIMEN"
	roleServe = "serve"
	roleJob   = "job"
)

// The descriptors of the pipes of a specimen.
const (
	commandFD = 3
	answerFD  = 4
)

// Main is what a program that uses this package calls first of all, from main or
// TestMain, with the jobs that Run may be asked for. In a process that this package
// has started it does not return.
func Main(jobs ...Job) {
	role := strings.Fields(os.Getenv(roleEnv))
	if len(role) == 0 {
		return
	}
	if err := play(role, jobs); err != nil {
		fmt.Fprintln(os.Stderr, "specimen:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func play(role []string, jobs []Job) error {
	switch {
	case len(role) == 2 && role[0] == roleServe:
		seed, err := strconv.ParseUint(role[1], 10, 64)
		if err != nil {
			return err
		}
		return serve(seed)
	case len(role) == 3 && role[0] == roleJob:
		return work(role[1], role[2], jobs)
	}
	return fmt.Errorf("no such role: %q", role)
}

// work is a job, in its own process.
func work(refuse, name string, jobs []Job) error {
	i := slices.IndexFunc(jobs, func(j Job) bool { return j.Name == name })
	if i < 0 {
		return fmt.Errorf("this program has no job %q", name)
	}
	errno, err := strconv.Atoi(refuse)
	if err != nil {
		return err
	}
	if errno != 0 {
		if e := linux.RefuseVM(linux.Errno(errno)); e != 0 {
			return fail("seccomp", e)
		}
	}
	if err := os.Unsetenv(roleEnv); err != nil {
		return err
	}
	return jobs[i].Run(os.Stdout, os.Args[1:])
}

// Run runs a job of this program in a process of its own, and gives what it wrote.
// The error of the job is part of the error. The process is killed when ctx ends.
func Run(ctx context.Context, o *RunOptions, name string, args ...string) (string, error) {
	if o == nil {
		o = new(RunOptions)
	}
	cmd := again(ctx, fmt.Sprintf("%s %d %s", roleJob, o.RefuseVM, name), o.As)
	cmd.Args = append(cmd.Args, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		err = fmt.Errorf("job %s: %w", name, err)
		if text := strings.TrimSpace(complaint.String()); text != "" {
			err = errors.Join(err, errors.New(text))
		}
		return out.String(), err
	}
	return out.String(), nil
}
