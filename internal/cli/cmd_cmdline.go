// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/compat/kvm"
	"github.com/remora-go/remora/target"
)

func cmdlineCommand() Command {
	return Command{
		Name:  "cmdline",
		Args:  "TARGET",
		Short: "show the arguments and the environment of a process",
		Long: "Prints the arguments, one a line, as they stand in the memory of the target now: a process may have written\n" +
			"over them. Of a live process they are those of /proc/PID/cmdline; of a core those that its stack has. What\n" +
			"is not printable is escaped; -0 prints the bytes as they are, a NUL behind each string.",
		Examples: []string{
			"remora cmdline 1234                        # one argument a line",
			"remora cmdline core:core.1234 --env        # the environment that it was started with",
			"remora cmdline 1234 -0 | xargs -0 printf '%q '",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &cmdlineOptions{open: openFlags(flags)}
			flags.BoolVar(&o.env, "env", false, "show the environment instead; with --json, as well")
			flags.BoolVarP(&o.null, "null", "0", false, "print bytes as they are, each string with a NUL behind it")
			o.output = outputFlag(flags)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runCmdline(ctx, env, args[0], o)
			}
		},
	}
}

// cmdlineOptions are the flags of cmdline.
type cmdlineOptions struct {
	open      *target.Options
	env, null bool
	output    *string
}

// cmdline is the Result of cmdline. Strings that are not UTF-8 are told apart only in
// the hexadecimal form, which is there when one of them is.
type cmdline struct {
	Target  string   `json:"target"`
	Argv    []string `json:"argv"`
	ArgvHex []string `json:"argv_hex,omitempty"`
	Env     []string `json:"env,omitempty"`
	EnvHex  []string `json:"env_hex,omitempty"`

	opts *cmdlineOptions
}

// commander is a target that knows what it was started with.
type commander interface {
	Command(ctx context.Context) (argv, envp []string, err error)
}

func runCmdline(ctx context.Context, env *Env, spec string, o *cmdlineOptions) (Result, error) {
	t, err := env.Open(ctx, spec, o.open)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	argv, envp, err := command(ctx, t, spec)
	if argv == nil && err != nil {
		return nil, err
	}
	res := &cmdline{Target: spec, Argv: argv, ArgvHex: inHex(argv), opts: o}
	if o.env {
		res.Env, res.EnvHex = envp, inHex(envp)
	}
	return res, err
}

// command asks the target, or, where it is a live process, libkvm's function for that.
func command(ctx context.Context, t remora.Target, spec string) (argv, envp []string, err error) {
	if c, ok := remora.As[commander](t); ok {
		return c.Command(ctx)
	}
	pid, ok := target.PID(spec)
	if !ok {
		return nil, nil, fmt.Errorf("%s: arguments: %w", t.Memory().Info().Name, errors.ErrUnsupported)
	}
	h, err := kvm.Open("", "", "", os.O_RDONLY, "")
	if err != nil {
		return nil, nil, err
	}
	defer h.Close()
	p, err := h.GetProc(ctx, pid)
	if err != nil {
		return nil, nil, err
	}
	return h.GetCmd(ctx, p, nil)
}

// inHex gives the strings in hexadecimal when JSON cannot have one of them.
func inHex(list []string) []string {
	valid := true
	out := make([]string, len(list))
	for i, s := range list {
		valid = valid && utf8.ValidString(s)
		out[i] = hex.EncodeToString([]byte(s))
	}
	if valid {
		return nil
	}
	return out
}

// Output is the file that is written instead of standard output.
func (c *cmdline) Output() string { return *c.opts.output }

// Text prints the strings.
func (c *cmdline) Text(w io.Writer) error {
	list := c.Argv
	if c.opts.env {
		list = c.Env
	}
	for _, s := range list {
		end := "\n"
		if c.opts.null {
			end = "\x00"
		} else {
			s = harmless(s)
		}
		if _, err := io.WriteString(w, s+end); err != nil {
			return err
		}
	}
	return nil
}
