// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora/target"
)

func psCommand() Command {
	return Command{
		Name:  "ps",
		Args:  "TARGET [PID|NAME]...",
		Short: "list the processes in a kernel image",
		Long: "Lists the processes that the kernel of an image had, out of its own lists: number, parent, processor, address of\n" +
			"the struct task_struct, state, share of memory, mapped and resident memory in KiB, and name; names of kernel\n" +
			"threads are in brackets. The states are those of ps(1). A > marks what a processor ran when the image was made: a\n" +
			"thread that it ran has a line of its own.\n\n" +
			"With numbers or names only those processes are listed; a name may have * and ? in it. When none fits the exit\n" +
			"code is 1. What could not be read is told on stderr, and the exit code is 5 then: an image made with a filter\n" +
			"has every process, but not the memory that arguments are in.",
		Examples: []string{
			"remora ps vmcore               # all processes",
			"remora ps vmcore -t            # as a tree of parents and children",
			"remora ps vmcore -aT 1 'ssh*'  # some, with their threads, arguments and environment",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &psOptions{open: &target.Options{}}
			imageFlags(flags, o.open)
			flags.BoolVarP(&o.tree, "tree", "t", false, "show who is whose child")
			flags.BoolVarP(&o.threads, "threads", "T", false, "list all threads")
			flags.BoolVarP(&o.args, "args", "a", false, "show the arguments and the environment too")
			o.output = outputFlag(flags)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runPs(ctx, env, args, o)
			}
		},
	}
}

// psOptions are the flags of ps.
type psOptions struct {
	open                *target.Options
	tree, threads, args bool
	output              *string
}

func runPs(ctx context.Context, env *Env, args []string, o *psOptions) (Result, error) {
	k, err := openKernel(ctx, env, args[0], "only the kernel of an image has processes", o.open)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	l := &taskList{Target: args[0], ctx: ctx, kernel: k, opts: o}
	if err := l.read(args[1:]); err != nil && l.Tasks == nil {
		return nil, err
	}
	return l, l.told()
}

// mostTold is how many errors are told of.
const mostTold = 10

// told gives what went wrong, but not for each of a thousand processes.
func (l *taskList) told() error {
	if n := len(l.trouble) - mostTold; n > 0 {
		return errors.Join(append(l.trouble[:mostTold:mostTold], fmt.Errorf("%d more like these: %w", n, l.trouble[mostTold]))...)
	}
	return errors.Join(l.trouble...)
}
