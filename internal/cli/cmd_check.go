// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora/target"
)

func checkCommand() Command {
	return Command{
		Name:  "check",
		Args:  "TARGET",
		Short: "look for damage in a kernel image",
		Long: "Looks at all that a kernel image holds: headers, notes, tables, and each page that has to be inflated, on all\n" +
			"processors. Each place that is damaged, or that is missing since the file ends before it, is listed with the file,\n" +
			"the offset in it, what has to be there and what is. Pages that were left out on purpose are no damage.\n\n" +
			"The exit code is 0 for a sound image, and 6 for one with damage.",
		Examples: []string{
			"remora check vmcore",
			"remora check vmcore:part1,part2,part3 --json   # one object for each place",
		},
		New: func(flags *pflag.FlagSet) Run {
			opts := &target.Options{}
			imageFlags(flags, opts)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runCheck(ctx, env, args[0], opts)
			}
		},
	}
}

func runCheck(ctx context.Context, env *Env, spec string, opts *target.Options) (Result, error) {
	t, err := env.Open(ctx, spec, opts)
	if err != nil {
		return nil, err
	}
	img, err := imageOf(t, "check looks at kernel images")
	if err != nil {
		t.Close()
		return nil, err
	}
	return &checking{ctx: ctx, env: env, t: t, image: img}, nil
}
