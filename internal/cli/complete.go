// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

// patience is how long a shell waits for the names of regions.
const patience = time.Second

// complete gives what may stand where word does: process ids for a TARGET or SOURCE, the names of
// regions for a RANGE or ADDR, the names of verbs for a VERB.
func complete(ctx context.Context, c *Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
	switch c.argAt(len(args)) {
	case "TARGET", "SOURCE":
		if strings.Trim(strings.TrimPrefix(word, "pid:"), "0123456789") == "" {
			return processes(os.DirFS("/proc"), word), cobra.ShellCompDirectiveDefault
		}
		return nil, cobra.ShellCompDirectiveDefault
	case "RANGE", "ADDR":
		return regionNames(ctx, c.targetBefore(args), word), cobra.ShellCompDirectiveNoFileComp
	case "VERB":
		var names []cobra.Completion
		for _, c := range commands() {
			if strings.HasPrefix(c.Name, word) {
				names = append(names, cobra.CompletionWithDesc(c.Name, c.Short))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	case "SHELL":
		return slices.DeleteFunc(shells(), func(s string) bool { return !strings.HasPrefix(s, word) }), cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// targetBefore gives the last target among args: the one that what comes next is of.
func (c *Command) targetBefore(args []string) string {
	for i := len(args) - 1; i > 0; i-- {
		if word := c.argAt(i); word == "TARGET" || word == "SOURCE" {
			return args[i]
		}
	}
	return args[0]
}

// regionNames gives the names by which regions of a target can be written.
func regionNames(ctx context.Context, spec, word string) []cobra.Completion {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t, err := target.Open(ctx, spec, &target.Options{Needs: []target.Ability{target.Mapper}})
	if err != nil {
		return nil
	}
	defer t.Close()
	m, _ := remora.As[remora.Mapper](t)
	seen := map[string]bool{}
	var names []cobra.Completion
	for reg, err := range m.Regions(ctx) {
		name := reg.Name
		if !strings.HasPrefix(name, "[") {
			name = path.Base(name)
		}
		if err != nil || reg.Name == "" || seen[name] || harmless(name) != name || !strings.HasPrefix(name, word) {
			continue
		}
		seen[name] = true
		names = append(names, cobra.CompletionWithDesc(name, reg.Range.String()))
	}
	return names
}

// pidOf gives the process that a directory of /proc is for.
func pidOf(name string) (int, bool) {
	pid, err := strconv.Atoi(name)
	return pid, err == nil && pid > 0
}
