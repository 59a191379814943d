// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/target"
)

func mapsCommand() Command {
	return Command{
		Name:  "maps",
		Args:  "TARGET",
		Short: "list what is mapped",
		Long: "Lists the regions of the target in the columns of /proc/PID/maps: addresses, permissions, offset in the\n" +
			"file, device, inode, name. With --pmap or -x the columns are those of pmap, with sizes in KiB, and a total. Of a\n" +
			"process in a kernel image -x shows where its pages are: RSS is what its page tables lead to, Cached other memory\n" +
			"that has them (of the file, or of the swap cache), Swap what is in a swap area, Zero what was swapped out as\n" +
			"zeros, Untouch what was never touched and reads as zeros, Absent what cannot be read.\n\n" +
			"PERMS is letters that a region must have: r, w, x, and s or p for shared or private; or a pattern such as\n" +
			"r-x, r--s or r.x, where - is a right that it must not have and . any. PATTERN is a part of the name, or all of\n" +
			"it with * and ? in it. When no region is left the exit code is 1.",
		Examples: []string{
			"remora maps 1234                      # as in /proc/1234/maps",
			"remora maps 1234 -x --sort rss        # the largest in memory first",
			"remora maps core:core.1234 --perm w --name '*/libc*'",
			"remora maps vmcore@1234 -x            # of a process in a kernel image",
		},
		Needs: []target.Ability{target.Mapper},
		New: func(flags *pflag.FlagSet) Run {
			o := &mapsOptions{open: openFlags(flags), sort: choice{value: "address", of: sortOrders()}}
			flags.BoolVarP(&o.usage, "usage", "x", false, "show what of each region is in memory, and what is dirty")
			flags.BoolVar(&o.pmap, "pmap", false, "print the columns of pmap")
			flags.Var(&o.sort, "sort", "sort by `KEY`: address, size, rss, dirty or name")
			flags.Var(&o.perm, "perm", "only regions with `PERMS`")
			flags.StringVar(&o.name, "name", "", "only regions whose name fits `PATTERN`")
			o.output = outputFlag(flags)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runMaps(ctx, env, args[0], o)
			}
		},
	}
}

// mapsOptions are the flags of maps.
type mapsOptions struct {
	open        *target.Options
	usage, pmap bool
	sort        choice
	perm        permFlag
	name        string
	output      *string
}

func runMaps(ctx context.Context, env *Env, spec string, o *mapsOptions) (Result, error) {
	if needsUsage := o.sort.value == "rss" || o.sort.value == "dirty"; needsUsage && !o.usage {
		return nil, usagef("--sort %s needs -x", o.sort.value)
	}
	t, err := env.Open(ctx, spec, o.open)
	if err != nil {
		return nil, err
	}
	defer t.Close()
	list, err := o.regions(ctx, t)
	if err != nil {
		return nil, err
	}
	res := &regionList{Target: spec, opts: o}
	found := false
	for u, err := range list {
		if err != nil {
			return res, fmt.Errorf("%s: %w", t.Memory().Info().Name, err)
		}
		found = true
		if o.perm.fits(u.Region) && fitsName(u.Name, o.name) {
			res.add(u)
		}
	}
	res.sort()
	if found && len(res.Regions) == 0 {
		return nil, errors.New("no region fits")
	}
	return res, nil
}

// regions lists the regions, with what they hold in memory where that was asked for.
func (o *mapsOptions) regions(ctx context.Context, t remora.Target) (iter.Seq2[held, error], error) {
	if o.usage {
		return heldBy(ctx, t)
	}
	m, _ := remora.As[remora.Mapper](t)
	return func(yield func(held, error) bool) {
		for reg, err := range m.Regions(ctx) {
			if !yield(held{Usage: proc.Usage{Region: reg}}, err) {
				return
			}
		}
	}, nil
}
