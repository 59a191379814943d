// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora/target"
)

func symCommand() Command {
	return Command{
		Name:  "sym",
		Args:  "TARGET [NAME|ADDR...]",
		Short: "look up symbols of a kernel image",
		Long: "Prints each symbol of a name, and for an address the symbol that it is in, as SYMBOL+OFFSET: in the columns of\n" +
			"/proc/kallsyms, which are the address, the letter of nm, the name and the module. NAME+OFFSET is an address too.\n" +
			"Without a name or an address it prints all symbols. If one is not found the exit code is 1.\n\n" +
			"The symbols are those in the memory of the kernel, and of its modules; or those of a file that is given, if it is\n" +
			"of the same kernel: its build id, or what the memory has at linux_banner, must agree. Its addresses are moved to\n" +
			"where the kernel runs.",
		Examples: []string{
			"remora sym vmcore init_task",
			"remora sym vmcore 0xffffffff81234567 vfs_read+0x10",
			"remora sym vmcore > kallsyms.txt",
			"remora sym vmcore init_task --system-map System.map",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &target.Options{}
			imageFlags(flags, o)
			symbolFlags(flags, o)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runSym(ctx, env, args, o)
			}
		},
	}
}

func runSym(ctx context.Context, env *Env, args []string, o *target.Options) (Result, error) {
	k, err := openKernel(ctx, env, args[0], "symbols are looked up in kernel images only", o)
	if err != nil {
		return nil, err
	}
	symbols, err := k.Symbols(ctx)
	if err != nil {
		k.Close()
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	return &symbolList{ctx: ctx, kernel: k, symbols: symbols, args: args[1:]}, nil
}
