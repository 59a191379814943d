// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"io"
	"strings"

	"github.com/spf13/pflag"
)

func completionCommand() Command {
	return Command{
		Name:  "completion",
		Args:  "SHELL",
		Short: "print a script that completes arguments in a shell",
		Long: "SHELL is bash, zsh or fish. The script asks remora itself, so process ids and the names of regions are\n" +
			"completed too.",
		Examples: []string{
			"source <(remora completion bash)",
			"remora completion zsh > \"${fpath[1]}/_remora\"",
			"remora completion fish | source",
		},
		New: func(*pflag.FlagSet) Run {
			return runCompletion
		},
	}
}

// script is a program for a shell.
type script struct {
	Shell  string `json:"shell"`
	Script string `json:"script"`
}

func (s *script) Text(w io.Writer) error {
	_, err := io.WriteString(w, s.Script)
	return err
}

func shells() []string { return []string{"bash", "zsh", "fish"} }

func runCompletion(_ context.Context, env *Env, args []string) (Result, error) {
	var b bytes.Buffer
	var err error
	switch args[0] {
	case "bash":
		err = env.root.GenBashCompletionV2(&b, true)
	case "zsh":
		err = env.root.GenZshCompletion(&b)
	case "fish":
		err = env.root.GenFishCompletion(&b, true)
	default:
		return nil, usagef("no completion for %q; want one of %s", args[0], strings.Join(shells(), ", "))
	}
	if err != nil {
		return nil, err
	}
	return &script{args[0], b.String()}, nil
}
