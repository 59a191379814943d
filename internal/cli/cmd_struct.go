// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora/btf"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
)

func structCommand() Command {
	return Command{
		Name:  "struct",
		Args:  "IMAGE TYPE [ADDR]",
		Short: "show how a type of the kernel lies in memory, and what is there",
		Long: "Prints the layout of a structure, union, enumeration or other type as the kernel in the image has it: each member\n" +
			"with its offset and size in bytes, of bit fields with the first bit and the number of them, the holes between\n" +
			"members and the size of the whole. TYPE is a name as task_struct, or with the kind of type before it as\n" +
			"\"struct module\"; TYPE.MEMBER is a member alone, also one within others: mm_struct.mm_mt.ma_root. Types of modules\n" +
			"are looked for too. Where several types have the name, the first one that has the member is taken; --nth gives\n" +
			"another one.\n\n" +
			"With ADDR, a number or a symbol, it prints what is in memory there: integers, enumerations by the names of their\n" +
			"values, arrays of characters as text, and pointers, with the symbol that they point to. What cannot be read is\n" +
			"printed as ??, with the cause; the exit code is 5 then.\n\n" +
			"The types are those of the BTF that the kernel has in its memory. For one made without it, or whose BTF is not in\n" +
			"the image, --vmlinux gives a file that has it.",
		Examples: []string{
			"remora struct vmcore task_struct              # all members, with their offsets",
			"remora struct vmcore mm_struct.mm_mt          # one of them",
			"remora struct vmcore task_struct init_task    # the values in init_task",
			"remora struct vmcore task_struct.comm 0xffff888003a41000",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &structOptions{open: &target.Options{}}
			imageFlags(flags, o.open)
			symbolFlags(flags, o.open)
			flags.IntVar(&o.nth, "nth", 0, "of several types of the name take the `N`th")
			flags.IntVar(&o.elements, "elements", 16, "print at most `N` elements of an array")
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runStruct(ctx, env, args, o)
			}
		},
	}
}

// structOptions are the flags of struct.
type structOptions struct {
	open          *target.Options
	nth, elements int
}

func runStruct(ctx context.Context, env *Env, args []string, o *structOptions) (Result, error) {
	if o.nth < 0 || o.elements < 1 {
		return nil, usagef("--nth and --elements are numbers from 1 on")
	}
	k, err := openKernel(ctx, env, args[0], "only a kernel image has types", o.open)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	types, err := k.Types(ctx)
	if err != nil {
		return nil, err
	}
	d, m, err := selectType(ctx, types, args[1], o.nth)
	if err != nil {
		return nil, err
	}
	if len(args) == 2 {
		return newLayout(ctx, types, d, m, args[1])
	}
	l := locate(ctx, k)
	a, err := l.parseAddr(args[2])
	if err != nil {
		return nil, err
	}
	return newDatum(ctx, k, d, m, a, args[1], o.elements)
}

// selectType finds TYPE or TYPE.MEMBER: the member of a type, or all of it.
func selectType(ctx context.Context, types *kernel.Types, text string, nth int) (d kernel.Type, m btf.Member, err error) {
	name, path, member := strings.Cut(text, ".")
	n := 0
	for d, err = range types.Lookup(ctx, name) {
		if err != nil {
			return d, m, err
		}
		m = btf.Member{Type: d.ID}
		if member {
			plain, err := d.In.Plain(ctx, d.ID)
			if err != nil {
				return d, m, err
			}
			found, ok, err := d.In.Find(ctx, plain, path)
			if err != nil {
				return d, m, err
			}
			if m = found; !ok {
				continue
			}
		}
		if n++; n == nth || nth == 0 {
			return d, m, nil
		}
	}
	switch {
	case n > 0:
		return d, m, fmt.Errorf("the kernel has %d types of the name %q, and no %dth", n, harmless(text), nth)
	case d.ID != 0:
		return d, m, fmt.Errorf("the kernel's type %q has no member %q", harmless(name), harmless(path))
	}
	return d, m, fmt.Errorf("the kernel has no type %q", harmless(name))
}
