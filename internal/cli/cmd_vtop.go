// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
	"github.com/remora-go/remora/target"
)

func vtopCommand() Command {
	return Command{
		Name:  "vtop",
		Args:  "TARGET ADDR...",
		Short: "show how page tables translate an address",
		Long: "Walks the page tables of a kernel image from the top, and prints each level: the address of the table, that of\n" +
			"the entry, the entry as it is, and what it means; then the physical address, the size of the page and its\n" +
			"permissions, or why there is none: not mapped, swapped out (with type and offset), a guard page, a page table\n" +
			"that the image lacks. If one of the addresses has no memory the exit code is 5, and 6 where no page tables are\n" +
			"found.\n\n" +
			"Where a page table is lost, addresses of the kernel's image and of its direct map are translated by formula, and\n" +
			"it is said so.\n\n" +
			"The page tables are those of the kernel, which are looked for: remora info says how they were found. With --root\n" +
			"they are those at a physical address, as in CR3, TTBR or satp, of the form that the kernel's have or that\n" +
			"--tables gives: x86-64 or x86-64:5 (levels), arm64:48:4K (bits of an address, size of a page), riscv64:48.",
		Examples: []string{
			"remora vtop vmcore init_task",
			"remora vtop vmcore 0x7ffd1000 --root 0x1f3a000   # an address of a process",
			"remora vtop ram.raw 0xffffffff81000000 --format raw --root 0x2a0a000 --tables x86-64",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &vtopOptions{open: &target.Options{}}
			imageFlags(flags, o.open)
			symbolFlags(flags, o.open)
			flags.Var(&o.root, "root", "the top table is at physical address `ADDR`")
			flags.Var(&o.tables, "tables", "the form of the page tables: `FORM` is as above")
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runVtop(ctx, env, args, o)
			}
		},
	}
}

// vtopOptions are the flags of vtop.
type vtopOptions struct {
	open   *target.Options
	root   sizeFlag
	tables tablesFlag
}

func runVtop(ctx context.Context, env *Env, args []string, o *vtopOptions) (Result, error) {
	if o.tables.set && !o.root.set {
		return nil, usagef("--tables is for --root")
	}
	k, err := openKernel(ctx, env, args[0], "only the addresses of a kernel image are translated", o.open)
	if err != nil {
		return nil, err
	}
	res := &translation{ctx: ctx, kernel: k}
	if err := res.begin(o, args[1:]); err != nil {
		k.Close()
		return nil, err
	}
	return res, nil
}

// begin finds the tables, and the addresses.
func (r *translation) begin(o *vtopOptions, args []string) error {
	found, why := r.kernel.Tables(r.ctx)
	if r.ctx.Err() != nil {
		return r.ctx.Err()
	}
	var format *paging.Format
	switch {
	case o.tables.set:
		var err error
		if format, err = o.tables.format(r.kernel.VMCoreInfo().Version()); err != nil {
			return usagef("--tables %s: %v", &o.tables, err)
		}
	case why == nil:
		format = found.Format
	case o.root.set:
		return usagef("of what form are the tables at %#x? --tables says it, as the kernel's were not found", o.root.n)
	default:
		return fmt.Errorf("%s: %w", r.kernel.Info().Name, why)
	}
	root := remora.Addr(o.root.n)
	if !o.root.set {
		root, r.how, r.own = found.Root, found.How, true
	}
	r.tables = r.kernel.TablesAt(format, root, paging.Whole)
	if o.root.set && r.tables.Half() == paging.Upper { // arm64: an address says which half the root is of
		r.lower = r.kernel.TablesAt(format, root, paging.Lower)
	}
	l := locate(r.ctx, r.kernel)
	for _, arg := range args {
		a, err := l.parseAddr(arg)
		if err != nil {
			return err
		}
		r.addrs = append(r.addrs, a)
	}
	return nil
}
