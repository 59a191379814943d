// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

func dumpCommand() Command {
	return Command{
		Name:  "dump",
		Args:  "TARGET",
		Short: "write a core file of a process in a kernel, or an image of the kernel's machine",
		Long: "Of a process, TARGET@PID, writes an ELF core, as the kernel would have, that debuggers open: its memory, the\n" +
			"registers that its threads have in user mode, the list of mapped files, arguments and the auxiliary vector.\n" +
			"Registers are those of the processor that a thread ran on, or what it left on its kernel stack; floating point is\n" +
			"not in it. What is not known is listed on stderr.\n\n" +
			"Pages are taken from wherever the kernel has them, also from the page cache and from swap. What was left out of\n" +
			"the image, or swapped out without a copy of the swap area, is left out of the core as well, and never zeros:\n" +
			"the exit code is 5 then. Pages of mapped files that are not in memory are left out, too, and debuggers take them\n" +
			"from the file. Pages of zeros are holes in the core, and mappings that were never touched have no bytes in it.\n\n" +
			"Of a kernel writes an image of its machine's memory as convert does, ELF or kdump-compressed, with VMCOREINFO and\n" +
			"the processors' registers as far as they are known: one that remora, drgn and crash open. A machine that runs\n" +
			"changes its memory meanwhile, unless --pause stops it.\n\n" +
			"The file can be read by its owner only, and appears when it is whole.",
		Examples: []string{
			"remora dump vmcore@1234 -o core.1234",
			"remora dump vmcore@1234 -o core && gdb /usr/bin/program core",
			"remora dump vmcore@1234 --swap 0=swap.img -o core.1234",
			"remora dump qemu:/run/guest.qmp --pause -o vmcore --to kdump",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &dumpOptions{open: openFlags(flags), image: formatFlags(flags)}
			flags.StringVarP(&o.file, "output", "o", "", "write `FILE`")
			flags.BoolVar(&o.pause, "pause", false, "stop the target meanwhile")
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				o.image.chosen = flags.Changed("compress") || flags.Changed("level")
				return runDump(ctx, env, args[0], o)
			}
		},
	}
}

// dumpOptions are the flags of dump.
type dumpOptions struct {
	open  *target.Options
	image *formatOptions
	file  string
	pause bool
}

func runDump(ctx context.Context, env *Env, spec string, o *dumpOptions) (r Result, err error) {
	if o.file == "" {
		return nil, usagef("dump: -o FILE is missing")
	}
	if err := o.image.check(); err != nil {
		return nil, err
	}
	t, err := env.Open(ctx, spec, o.open)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	if o.pause {
		resume, err := pause(ctx, t)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, resume()) }()
	}
	if _, ok := remora.As[*target.Kernel](t); ok {
		return dumpImage(ctx, env, t, spec, o)
	}
	return dumpCore(ctx, env, t, spec, o.file)
}

// dumpImage writes an image of a machine.
func dumpImage(ctx context.Context, env *Env, t remora.Target, spec string, o *dumpOptions) (Result, error) {
	if err := mayCreate(o.file, true); err != nil {
		return nil, err
	}
	content, err := target.Content(ctx, t)
	if err != nil {
		return nil, err
	}
	if t.Memory().Info().Live && !o.pause {
		env.Note("the machine runs: its memory changes while it is written")
	}
	c := &conversion{Source: spec, File: o.file, Format: o.image.to.value}
	return c.run(ctx, env, content, o.image.write(c))
}
