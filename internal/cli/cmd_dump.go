// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora/scan"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/usercore"
)

func dumpCommand() Command {
	return Command{
		Name:  "dump",
		Args:  "TARGET",
		Short: "write a core file of a process in a kernel image",
		Long: "Writes an ELF core of the process, as the kernel would have, that debuggers open: its memory, the registers\n" +
			"that its threads have in user mode, the list of mapped files, arguments and the auxiliary vector. Registers are\n" +
			"those of the processor that a thread ran on, or what it left on its kernel stack; floating point is not in it.\n" +
			"What is not known is listed on stderr.\n\n" +
			"Pages are taken from wherever the kernel has them, also from the page cache and from swap. What was left out of\n" +
			"the image, or swapped out without a copy of the swap area, is left out of the core as well, and never zeros:\n" +
			"the exit code is 5 then. Pages of mapped files that are not in memory are left out, too, and debuggers take them\n" +
			"from the file. Pages of zeros are holes in the core, and mappings that were never touched have no bytes in it.\n\n" +
			"The file can be read by its owner only.",
		Examples: []string{
			"remora dump vmcore@1234 -o core.1234",
			"remora dump vmcore@1234 -o core && gdb /usr/bin/program core",
			"remora dump vmcore@1234 --swap 0=swap.img -o core.1234",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &dumpOptions{open: openFlags(flags)}
			flags.StringVarP(&o.file, "output", "o", "", "write the core to `FILE`")
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runDump(ctx, env, args[0], o)
			}
		},
	}
}

// dumpOptions are the flags of dump.
type dumpOptions struct {
	open *target.Options
	file string
}

// coreDump is the Result of dump. Amounts are in bytes.
type coreDump struct {
	Target  string   `json:"target"`
	File    string   `json:"file"`
	Size    int64    `json:"size"`
	Threads int      `json:"threads"`
	Saved   uint64   `json:"saved"`
	Zeros   uint64   `json:"zeros"`    // of them
	Left    uint64   `json:"left_out"` // never touched, or of files
	Missing uint64   `json:"missing"`
	Unknown []string `json:"unknown,omitempty"`
}

func runDump(ctx context.Context, env *Env, spec string, o *dumpOptions) (Result, error) {
	if o.file == "" {
		return nil, usagef("dump: -o FILE is missing")
	}
	t, err := env.Open(ctx, spec, o.open)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	c, lacks, err := target.Core(ctx, t)
	if err != nil {
		return nil, err
	}
	d := &coreDump{Target: spec, File: o.file, Threads: len(c.Threads)}
	for _, err := range lacks {
		d.Unknown = append(d.Unknown, err.Error())
		env.Note("not known: " + err.Error())
	}
	done, err := d.write(ctx, env, c)
	if err != nil {
		return nil, err
	}
	d.Size, d.Saved, d.Zeros, d.Left, d.Missing = done.Size, done.Saved, done.Zeros, done.Left, done.Missing
	gaps := faults{ctx: ctx, mem: c.Memory}
	for _, g := range done.Gaps {
		gaps.add(&scan.Piece{Addr: g.Start, Size: g.Size, Err: g.Err})
	}
	return d, gaps.errors()
}

// write writes the file.
func (d *coreDump) write(ctx context.Context, env *Env, c *usercore.Contents) (*usercore.Written, error) {
	f, err := createFile(d.File)
	if err != nil {
		return nil, err
	}
	env.begun(f)
	defer env.begun(nil)
	done, err := usercore.Write(ctx, f, c)
	if err == nil {
		err = f.Truncate(done.Size)
	}
	if err != nil {
		f.abandon()
		if f.failed != nil {
			err = f.failed
		}
		return nil, err
	}
	return done, f.commit()
}

// Text tells how much was written.
func (d *coreDump) Text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%s: %d threads, %d bytes of memory, of them %d in pages of zeros; %d are left out, %d are missing\n",
		harmless(d.File), d.Threads, d.Saved, d.Zeros, d.Left, d.Missing)
	return err
}
