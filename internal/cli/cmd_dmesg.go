// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora/target"
)

func dmesgCommand() Command {
	return Command{
		Name:  "dmesg",
		Args:  "TARGET",
		Short: "print the log of the kernel in an image",
		Long: "Prints the messages in the log of a kernel image from the oldest to the newest, also those that dmesg --clear has\n" +
			"hidden, byte for byte as vmcore-dmesg of kexec-tools does: seconds since the kernel started, and the text, in which\n" +
			"what is no printable ASCII is written as \\xNN.\n\n" +
			"A message whose text is not in the image is printed without it, and the exit code is 5 then. With --json there is\n" +
			"an object for each message, with its number, facility, device, and the thread (T) or processor (C) that wrote it.",
		Examples: []string{
			"remora dmesg vmcore                # all of it",
			"remora dmesg vmcore --level err+   # errors, and what is worse",
			"remora dmesg vmcore -xT            # with facility, level and time of day",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &dmesgOptions{open: &target.Options{}}
			imageFlags(flags, o.open)
			flags.BoolVarP(&o.clock, "ctime", "T", false, "print the time of day, as the kernel's clock has it now")
			flags.BoolVarP(&o.decode, "decode", "x", false, "print facility and level before each message")
			flags.VarP(&o.levels, "level", "l", "print messages of some levels: `LIST` has emerg, alert, crit, err, warn, notice, info or debug, with a + for all that is worse too")
			o.output = outputFlag(flags)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runDmesg(ctx, env, args[0], o)
			}
		},
	}
}

// dmesgOptions are the flags of dmesg.
type dmesgOptions struct {
	open          *target.Options
	clock, decode bool
	levels        levelsFlag
	output        *string
}

func runDmesg(ctx context.Context, env *Env, spec string, o *dmesgOptions) (Result, error) {
	k, err := openKernel(ctx, env, spec, "only the kernel of an image has a log", o.open)
	if err != nil {
		return nil, err
	}
	log := &kernelLog{ctx: ctx, kernel: k, opts: o}
	if o.clock {
		if err := log.findBoot(); err != nil {
			k.Close()
			return nil, err
		}
	}
	return log, nil
}
