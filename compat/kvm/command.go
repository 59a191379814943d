// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"bytes"
	"context"
	"fmt"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/errno"
)

// titlePage is how much of a title the kernel shows in /proc/PID/cmdline.
const titlePage = 4096

// vectors reads the arguments and the environment.
func (u *User) vectors(ctx context.Context, m *remora.Memory) (argv, envp []string, err error) {
	if u.ArgStart == 0 || u.EnvStart == 0 {
		return nil, nil, fmt.Errorf("%s: where its arguments are is not known: %w", m.Info().Name, errno.EFAULT)
	}
	args, err := u.arguments(ctx, m)
	if err != nil {
		return nil, nil, err
	}
	env, err := area(ctx, m, u.EnvStart, u.EnvEnd)
	if err != nil {
		return nil, nil, err
	}
	return split(args), split(env), nil
}

// arguments reads what /proc/PID/cmdline shows (get_mm_cmdline in the kernel's
// fs/proc/base.c). When the byte before the end is not NUL, the process has written a
// title over its arguments (setproctitle(3)): one string, which may reach into the
// environment.
func (u *User) arguments(ctx context.Context, m *remora.Memory) ([]byte, error) {
	args, err := area(ctx, m, u.ArgStart, u.ArgEnd)
	if err != nil || len(args) == 0 || args[len(args)-1] == 0 {
		return args, err
	}
	end := u.ArgEnd
	if u.EnvStart == u.ArgEnd && u.EnvEnd > u.EnvStart {
		end = u.EnvEnd
	}
	end = min(end, u.ArgStart+titlePage)
	title := make([]byte, end-u.ArgStart)
	n, err := move(ctx, remora.Read, m, title, u.ArgStart)
	if n == 0 {
		return nil, err
	}
	if i := bytes.IndexByte(title[:n], 0); i >= 0 {
		n = i + 1
	}
	return title[:n], nil
}

// area reads the bytes from start to end, all of them.
func area(ctx context.Context, m *remora.Memory, start, end remora.Addr) ([]byte, error) {
	if end <= start {
		return nil, nil
	}
	if end-start > maxCommand {
		return nil, fmt.Errorf("%s: %v to %v is too much for a vector of strings: %w", m.Info().Name, start, end, errno.EOVERFLOW)
	}
	b := make([]byte, end-start)
	if _, err := move(ctx, remora.Read, m, b, start); err != nil {
		return nil, err
	}
	return b, nil
}

// split gives the strings of b, each of which ends with a NUL; that of the last may be
// missing.
func split(b []byte) []string {
	out := []string{}
	for len(b) > 0 {
		var s []byte
		s, b, _ = bytes.Cut(b, []byte{0})
		out = append(out, string(s))
	}
	return out
}
