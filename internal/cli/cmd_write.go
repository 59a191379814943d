// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

func writeCommand() Command {
	return Command{
		Name:  "write",
		Args:  "TARGET [ADDR] [DATA]...",
		Short: "change memory",
		Long: "Writes DATA at ADDR, reads it back, and prints what it changed: the old bytes and the new ones. Where not all\n" +
			"can be written, what could be is counted, and the exit code is 5.\n\n" +
			"DATA is read as --hex, --str or --as says. TYPE is u8, u16, u32, u64, i8, i16, i32, i64, f32, f64 or ptr, each\n" +
			"in the byte order of the target, or str for text with a NUL behind it. Negative numbers go behind --. DATA - is\n" +
			"standard input and --file a file, both as they are, or in the form that is named; at most 64 MiB.\n\n" +
			"ADDR is a number, or begins with the name of a symbol or region: [heap]+0x10, libc.so.6+0x1000.\n\n" +
			"With --expect, OLD (in the form of DATA; hexadecimal where that has none) is compared with what is there, and\n" +
			"nothing is written where they differ: then both are shown, and the exit code is 1. Between the look and the\n" +
			"write the target may change it, unless --pause stops the target. With --check nothing is written unless the map\n" +
			"of the target lets all of it be written.\n\n" +
			"With --undo, FILE is written before memory is: one JSON object with the target, the address, and the old and\n" +
			"new bytes in hexadecimal. --restore FILE puts the old bytes back, if each byte there is still the new or the\n" +
			"old one.\n\n" +
			"Memory that may be written but not read is looked at as a debugger does, to show and to compare it.",
		Examples: []string{
			"remora write 1234 0x601040 --as u32 7              # a number of the target",
			"remora write 1234 0x601040 --hex 'de ad be ef' --expect '00 00 00 00' --pause",
			"remora write 1234 '[heap]+0x10' --str hello --undo undo.json",
			"remora write 1234 --restore undo.json",
			"remora write 1234 0x401000 --hex cc --force        # a breakpoint in read-only text",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := newWriteOptions(flags)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runWrite(ctx, env, args, o)
			}
		},
	}
}

// writeOptions are the flags of write.
type writeOptions struct {
	open     *target.Options
	hex, str bool
	as       typeFlag
	file     string
	expect   string
	expects  bool // --expect is there
	undo     string
	restore  string
	force    bool
	check    bool
	dryRun   bool
	pause    bool
	anyway   bool
	verbose  bool
}

func newWriteOptions(flags *pflag.FlagSet) *writeOptions {
	o := &writeOptions{open: openFlags(flags)}
	o.open.Write = true
	flags.BoolVar(&o.hex, "hex", false, "DATA is hexadecimal digits; blanks between bytes do not count")
	flags.BoolVar(&o.str, "str", false, "DATA is text, written as it is, without a NUL behind it")
	flags.Var(&o.as, "as", "DATA is values of a `TYPE`")
	flags.StringVar(&o.file, "file", "", "take DATA from `FILE`")
	flags.Func("expect", "write only if `OLD` is there", func(s string) error {
		o.expect, o.expects = s, true
		return nil
	})
	flags.BoolVar(&o.check, "check", false, "write nothing unless the map says that all of it can be written")
	flags.StringVar(&o.undo, "undo", "", "first save the old bytes in `FILE`, for --restore")
	flags.StringVar(&o.restore, "restore", "", "put back the old bytes that --undo saved in `FILE`")
	flags.BoolVar(&o.anyway, "anyway", false, "with --restore, put them back whatever is there now")
	flags.BoolVar(&o.force, "force", false, "ignore page protections, as a debugger does")
	flags.BoolVar(&o.dryRun, "dry-run", false, "show what would change, and write nothing")
	flags.BoolVar(&o.pause, "pause", false, "stop the target from the first look to the last")
	flags.BoolVarP(&o.verbose, "verbose", "v", false, "print every change, not only the first 64 lines")
	return o
}

// checkArgs finds flags and arguments that do not go together.
func (o *writeOptions) checkArgs(args []string) error {
	forms := 0
	for _, given := range []bool{o.hex, o.str, o.as.kind != nil} {
		if given {
			forms++
		}
	}
	switch {
	case forms > 1:
		return usagef("--hex, --str and --as do not go together")
	case o.restore != "" && (len(args) > 1 || o.file != "" || o.expects || forms > 0):
		return usagef("--restore takes the address and the bytes from its file")
	case o.restore != "":
		return nil
	case o.anyway:
		return usagef("--anyway is for --restore")
	case len(args) < 2:
		return usagef("ADDR is missing; usage: remora write [flags] TARGET ADDR DATA")
	case len(args) == 2 && o.file == "":
		return usagef("DATA is missing; it can also come from --file, or from standard input with -")
	case len(args) > 2 && o.file != "":
		return usagef("there is both --file and %q", args[2])
	case len(args) > 2 && forms == 0 && (len(args) > 3 || args[2] != "-"):
		return usagef("what is %q? say --hex, --str or --as TYPE", args[2])
	}
	return nil
}

func runWrite(ctx context.Context, env *Env, args []string, o *writeOptions) (res Result, err error) {
	if err := o.checkArgs(args); err != nil {
		return nil, err
	}
	t, err := env.Open(ctx, args[0], o.open)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	w := &writing{ctx: ctx, env: env, spec: args[0], target: t, mem: t.Memory(), opts: o}
	if o.force {
		w.mem = w.mem.With(remora.Force)
	}
	if err := w.locate(args[1:]); err != nil {
		return nil, err
	}
	if o.pause {
		resume, stopped := pause(ctx, t)
		if stopped != nil {
			return nil, stopped
		}
		defer func() { err = errors.Join(err, resume()) }()
	}
	return w.run()
}
