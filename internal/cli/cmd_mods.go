// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
)

func modsCommand() Command {
	return Command{
		Name:  "mods",
		Args:  "TARGET [NAME]...",
		Short: "list the modules of the kernel in an image",
		Long: "Lists the modules that the kernel of an image had loaded: name, size and number of users, the modules among them,\n" +
			"state, address of the text, and letters of what it taints the kernel by, as /proc/modules and lsmod do. With names,\n" +
			"in which there may be * and ?, only those are listed; when none fits the exit code is 1. --json has where each kind\n" +
			"of memory of a module lies, too.",
		Examples: []string{
			"remora mods vmcore           # all",
			"remora mods vmcore 'virtio*' --json",
		},
		New: func(flags *pflag.FlagSet) Run {
			o := &target.Options{}
			imageFlags(flags, o)
			return func(ctx context.Context, env *Env, args []string) (Result, error) {
				return runMods(ctx, env, args, o)
			}
		},
	}
}

// moduleList is the Result of mods.
type moduleList struct {
	Target  string      `json:"target"`
	Modules []moduleRow `json:"modules"`
}

// moduleRow is one module.
type moduleRow struct {
	Name      string        `json:"name"`
	State     string        `json:"state"`
	Base      string        `json:"base"` // of its text
	Size      uint64        `json:"size"` // bytes
	Refs      int64         `json:"refs"` // -1: not counted
	UsedBy    []string      `json:"used_by"`
	Permanent bool          `json:"permanent"`
	Taints    string        `json:"taints"`
	Memory    []moduleRange `json:"memory"`
}

type moduleRange struct {
	Kind  string `json:"kind"`
	Start string `json:"start"`
	End   string `json:"end"` // the first address behind it
	Size  uint64 `json:"size"`
}

func runMods(ctx context.Context, env *Env, args []string, o *target.Options) (Result, error) {
	for _, name := range args[1:] {
		if _, err := path.Match(name, ""); err != nil {
			return nil, usagef("%q is no name of a module", name)
		}
	}
	k, err := openKernel(ctx, env, args[0], "only the kernel of an image has modules", o)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	l := &moduleList{Target: args[0], Modules: []moduleRow{}}
	for m, err := range k.Modules(ctx) {
		if err != nil {
			if len(l.Modules) == 0 {
				return nil, err
			}
			return l, err
		}
		if nameFits(m.Name, args[1:]) {
			l.add(m)
		}
	}
	if len(l.Modules) == 0 && len(args) > 1 {
		return nil, fmt.Errorf("%s: no module is called %s: %w", args[0], strings.Join(args[1:], " or "), errNothing)
	}
	return l, nil
}

var errNothing = errors.New("nothing found")

// nameFits says whether a name is one of those that are wanted.
func nameFits(name string, patterns []string) bool {
	for _, p := range patterns {
		if ok, _ := path.Match(p, name); ok {
			return true
		}
	}
	return len(patterns) == 0
}

func (l *moduleList) add(m *kernel.Module) {
	row := moduleRow{Name: m.Name, State: m.State.String(), Base: m.Base.String(), Size: m.Size, Refs: m.Refs, UsedBy: m.UsedBy,
		Permanent: m.Permanent, Taints: m.Taints, Memory: []moduleRange{}}
	if row.UsedBy == nil {
		row.UsedBy = []string{}
	}
	for _, r := range m.Ranges {
		row.Memory = append(row.Memory, moduleRange{r.Kind, r.Start.String(), endText(r.Range), r.Size})
	}
	l.Modules = append(l.Modules, row)
}

// Text prints the columns of /proc/modules, aligned.
func (l *moduleList) Text(w io.Writer) error {
	for _, m := range l.Modules {
		by := strings.Join(m.UsedBy, ",")
		if m.Permanent {
			by = strings.TrimPrefix(by+",[permanent]", ",")
		}
		if by == "" {
			by = "-"
		}
		line := fmt.Sprintf("%-24s %8d %3d %-9s %-18s %s", harmless(m.Name), m.Size, m.Refs, m.State, m.Base, harmless(by))
		if m.Taints != "" {
			line += " (" + m.Taints + ")"
		}
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return err
		}
	}
	return nil
}
