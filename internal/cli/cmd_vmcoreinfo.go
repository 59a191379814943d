// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora/target"
)

func vmcoreinfoCommand() Command {
	return Command{
		Name:  "vmcoreinfo",
		Args:  "TARGET [KEY]...",
		Short: "print what a kernel wrote about itself for those who read dumps",
		Long: "Prints the VMCOREINFO of a kernel image, lines of KEY=VALUE. With keys only their values are printed, each on a\n" +
			"line; when there is no such key the exit code is 1.",
		Examples: []string{
			"remora vmcoreinfo vmcore                     # all of it",
			"remora vmcoreinfo vmcore OSRELEASE BUILD-ID  # two values",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &target.Options{}
			imageFlags(flags, o)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runVmcoreinfo(ctx, env, args, o)
			}
		},
	}
}

// vmcoreinfo is the Result of vmcoreinfo.
type vmcoreinfo struct {
	Target string     `json:"target"`
	Lines  []infoFact `json:"lines"`

	values bool // print values alone
}

func runVmcoreinfo(ctx context.Context, env *Env, args []string, o *target.Options) (Result, error) {
	k, err := openKernel(ctx, env, args[0], "only the kernel of an image has VMCOREINFO", o)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	if k.VMCoreInfo() == nil { // it may be found with the kernel
		_, _ = k.Tables(ctx)
	}
	info := k.VMCoreInfo()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if info == nil {
		return nil, fmt.Errorf("%s has no VMCOREINFO: %w", args[0], errors.ErrUnsupported)
	}
	v := &vmcoreinfo{Target: args[0], Lines: []infoFact{}, values: len(args) > 1}
	if !v.values {
		for _, l := range info.Lines {
			v.Lines = append(v.Lines, infoFact(l))
		}
		return v, errors.Join(info.Problems...)
	}
	var missing []error
	for _, key := range args[1:] {
		value, ok := info.Text(key)
		if !ok {
			missing = append(missing, fmt.Errorf("%s: VMCOREINFO has no %s", args[0], key))
			continue
		}
		v.Lines = append(v.Lines, infoFact{key, value})
	}
	return v, errors.Join(missing...)
}

// Text prints the lines.
func (v *vmcoreinfo) Text(w io.Writer) error {
	for _, l := range v.Lines {
		line := harmless(l.Value) + "\n"
		if !v.values {
			line = harmless(l.Key) + "=" + line
		}
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
	}
	return nil
}
