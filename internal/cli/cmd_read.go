// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

func readCommand() Command {
	return Command{
		Name:  "read",
		Args:  "TARGET RANGE...",
		Short: "print memory",
		Long: "Prints memory as a hex dump with the target's addresses; ?? stands for bytes that cannot be read, * for\n" +
			"lines like the one above. All ranges are read together. What could not be read is listed on stderr, with\n" +
			"the exact first address and the cause, and the exit code is 5.\n\n" +
			"A RANGE is ADDR, ADDR+LEN, ADDR-END, or begins with the name of a symbol or region: [stack], libc.so.6,\n" +
			"NAME+OFF, NAME+OFF+LEN. @FILE stands for the ranges that a file lists, @- for those on standard input.\n" +
			"Numbers are decimal, 0x or 0o, with K, M, G or T behind them for powers of 1024.\n\n" +
			"TYPE is u8, u16, u32, u64, i8, i16, i32, i64, f32, f64, ptr, or str for text that ends in a NUL.\n\n" +
			"With --stable, memory that changes while it is read is read again: the target is paused, or, where that\n" +
			"cannot be, each part of up to 16 MiB is read until two readings are equal; stderr says which.",
		Examples: []string{
			"remora read 1234 0x7ffd1000+256            # a hex dump",
			"remora read 1234 '[stack]' 0x400000+64     # many ranges, one call",
			"remora read core:core.1234 0x601040 --as u64",
			"remora read 1234 '[heap]' --raw -o heap.bin",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := newReadOptions(flags)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runRead(ctx, env, args, o)
			}
		},
	}
}

// readOptions are the flags of read.
type readOptions struct {
	open     *target.Options
	size     sizeFlag
	cols     sizeFlag
	group    sizeFlag
	fill     sizeFlag
	as       typeFlag
	output   *string
	verbose  bool
	plain    bool
	raw      bool
	resident bool
	force    bool
	pause    bool
	stable   bool
}

func newReadOptions(flags *pflag.FlagSet) *readOptions {
	o := &readOptions{open: openFlags(flags)}
	flags.VarP(&o.size, "length", "n", "`LEN` bytes for each range that gives no length (256, or one value)")
	flags.BoolVarP(&o.verbose, "no-squeezing", "v", false, "print equal lines too, instead of *")
	flags.VarP(&o.cols, "cols", "c", "`COLS` bytes in a line (16; 32 with -p)")
	flags.VarP(&o.group, "group", "g", "write `BYTES` bytes without a blank between them (1)")
	flags.BoolVarP(&o.plain, "plain", "p", false, "print hexadecimal digits alone, or values alone")
	flags.BoolVar(&o.raw, "raw", false, "write the bytes themselves, up to the first that is missing")
	flags.Var(&o.fill, "fill", "with --raw, write `BYTE` for each that is missing, and go on")
	flags.Var(&o.as, "as", "print values of a `TYPE`")
	flags.BoolVar(&o.resident, "resident", false, "read only what is in memory, and bring nothing into it")
	flags.BoolVar(&o.force, "force", false, "ignore page protections, as a debugger does")
	flags.BoolVar(&o.pause, "pause", false, "stop the target while it is read")
	flags.BoolVar(&o.stable, "stable", false, "never print what was half changed")
	flags.IntVar(&o.open.Parallel, "parallel", 0, "read large ranges by `N` threads")
	o.output = outputFlag(flags)
	return o
}

// check finds flags that do not go together.
func (o *readOptions) check(env *Env) error {
	switch {
	case o.raw && (env.JSON || o.plain || o.as.kind != nil):
		return usagef("--raw does not go with --json, --plain or --as")
	case o.fill.set && !o.raw:
		return usagef("--fill is for --raw")
	case o.fill.n > 255:
		return usagef("--fill: %d is not a byte", o.fill.n)
	case o.cols.set && (o.cols.n < 1 || o.cols.n > 256):
		return usagef("--cols: want 1 to 256 bytes in a line")
	case o.open.Parallel < 0 || o.open.Parallel > 256:
		return usagef("--parallel: want 0 to 256 threads")
	case o.group.set && (o.group.n < 1 || o.group.n > 256):
		return usagef("--group: want 1 to 256 bytes")
	}
	return nil
}

// op gives the bits of the reading.
func (o *readOptions) op() remora.Op {
	op := remora.Read
	if o.resident {
		op |= remora.Resident
	}
	if o.force {
		op |= remora.Force
	}
	return op
}

func runRead(ctx context.Context, env *Env, args []string, o *readOptions) (Result, error) {
	if err := o.check(env); err != nil {
		return nil, err
	}
	t, err := env.Open(ctx, args[0], o.open)
	if err != nil {
		return nil, err
	}
	r := &reading{ctx: ctx, target: t, mem: t.Memory().With(o.op()), opts: o, color: env.Color}
	if err = r.locate(env, args[1:]); err == nil {
		err = r.steady(env)
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}
