// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"

	"github.com/spf13/pflag"
)

func helpCommand() Command {
	return Command{
		Name:  "help",
		Args:  "[VERB]",
		Short: "explain remora, or one verb",
		Long:  "Prints what \"remora VERB --help\" prints; without a verb, the list of verbs, targets and exit codes.",
		New: func(*pflag.FlagSet) Run {
			return runHelp
		},
	}
}

// help is a page of help.
type help struct {
	Help string `json:"help"`
}

func (h *help) Text(w io.Writer) error {
	_, err := io.WriteString(w, h.Help)
	return err
}

func runHelp(_ context.Context, env *Env, args []string) (Result, error) {
	if len(args) == 0 {
		return &help{helpText(env.root)}, nil
	}
	for _, c := range env.root.Commands() {
		if c.Name() == args[0] && !c.Hidden {
			return &help{helpText(c)}, nil
		}
	}
	return nil, usagef("%q is not a verb%s; \"remora help\" lists them", args[0], meant(env.root.SuggestionsFor(args[0])))
}
