// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora/target"
)

func convertCommand() Command {
	return Command{
		Name:  "convert",
		Args:  "TARGET FILE",
		Short: "write a kernel image in another format",
		Long: "Writes FILE, an image of the physical memory of TARGET, as ELF (what the kernel's /proc/vmcore is) or\n" +
			"kdump-compressed (what makedumpfile writes, version 6). Notes with VMCOREINFO and the processors' registers, and\n" +
			"the dump level of a compressed image, are carried over. FILE appears when it is whole; one that is there is\n" +
			"replaced with --force alone. It can be read by its owner only.\n\n" +
			"An ELF image tells where the kernel has memory mapped, if its page tables are found. Images by QEMU do not, and\n" +
			"debuggers that want it open what this writes where they refuse the original. A source that does not tell where\n" +
			"the kernel is, by VMCOREINFO or registers, is read twice: it is searched for in all of it.\n\n" +
			"What was left out of the source is left out of FILE, and never zeros in it unless --zero-excluded says so. What is\n" +
			"lost in the source (cut off, or not written for want of room) is lost in a compressed image too, and not saved in\n" +
			"an ELF one, which knows no other word. What proves to be damaged is treated so as well, and listed on stderr.\n" +
			"Where anything is lost the exit code is 5. Parts of pages, which only ELF knows, are left out of a compressed\n" +
			"image. How much all that is is printed at the end.\n\n" +
			"TARGET may be any other target that lists what is mapped; its addresses then stand for physical ones.",
		Examples: []string{
			"remora convert vmcore vmcore.kdump --to kdump --compress zstd",
			"remora convert vmcore:part1,part2,part3 whole.elf",
			"remora convert ram.raw vmcore.elf --ram-base 0x40000000",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &convertOptions{open: openFlags(flags), formatOptions: formatFlags(flags)}
			flags.BoolVar(&o.force, "force", false, "replace FILE if it is there")
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				o.chosen = flags.Changed("compress") || flags.Changed("level")
				return runConvert(ctx, env, args, o)
			}
		},
	}
}

// convertOptions are the flags of convert.
type convertOptions struct {
	open *target.Options
	*formatOptions
	force bool
}

func runConvert(ctx context.Context, env *Env, args []string, o *convertOptions) (Result, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := mayCreate(args[1], o.force); err != nil {
		return nil, err
	}
	t, err := env.Open(ctx, args[0], o.open)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	content, err := target.Content(ctx, t)
	if err != nil {
		return nil, err
	}
	c := &conversion{Source: args[0], File: args[1], Format: o.to.value}
	return c.run(ctx, env, content, o.write(c))
}
