// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

// Command is one verb.
type Command struct {
	Name     string
	Args     string           // "TARGET RANGE...": see the package comment
	Short    string           // one line, lower case, no full stop
	Long     string           // paragraphs; empty lines between them
	Examples []string         // each a line to be typed, with a comment behind it
	Needs    []target.Ability // what Env.Open asks of every target
	New      func(*pflag.FlagSet) Run
}

// Run does the work of a verb. The Result, when there is one, is printed even when
// there is an error too.
type Run func(ctx context.Context, env *Env, args []string) (Result, error)

// Result is what a verb has found out. Text prints it for people. For --json it is
// marshalled by encoding/json, into an object.
type Result interface {
	Text(w io.Writer) error
}

// Streamer is a Result whose JSON form is one object a line.
type Streamer interface {
	Lines(emit func(object any) error) error
}

// outputter is a Result that goes into a file when Output is not empty.
type outputter interface{ Output() string }

// Env is what a verb may use of the world.
type Env struct {
	Stdin io.Reader
	JSON  bool // --json: for verbs whose work differs, not for printing
	Color bool // the text may hold colours

	// Open opens a target that has what the Command needs.
	Open func(ctx context.Context, spec string, o *target.Options) (remora.Target, error)
	// Note prints a remark on stderr at once.
	Note func(text string)

	progress func(what string) *progress // of a long job; what it gives may be nil
	begun    func(*outFile)              // a file is being written that must not stay half written; nil: no more

	root *cobra.Command // for help and completion
}

// flush hands on what w has gathered, so that it can be seen now.
func flush(w io.Writer) error {
	if f, ok := w.(interface{ Flush() error }); ok {
		return f.Flush()
	}
	return nil
}

// checkArgs holds the arguments against Args.
func (c *Command) checkArgs(args []string) error {
	words := strings.Fields(c.Args)
	least, most := 0, len(words)
	for _, w := range words {
		if !strings.HasPrefix(w, "[") {
			least++
		}
		if strings.Contains(w, "...") {
			most = len(args)
		}
	}
	switch {
	case len(args) < least:
		return usagef("%s: %s is missing; usage: %s", c.Name, strings.TrimSuffix(words[len(args)], "..."), c.usage())
	case len(args) > most:
		return usagef("%s: too many arguments at %q; usage: %s", c.Name, args[most], c.usage())
	}
	return nil
}

// usage is the line that shows how the verb is typed.
func (c *Command) usage() string {
	return strings.TrimSpace("remora " + c.Name + " [flags] " + c.Args)
}

// argAt gives the word of Args for the argument at i, "" beyond the last.
func (c *Command) argAt(i int) string {
	words := strings.Fields(c.Args)
	if n := len(words); i >= n && n > 0 && strings.Contains(words[n-1], "...") {
		i = n - 1
	}
	if i >= len(words) {
		return ""
	}
	return strings.Trim(words[i], "[].")
}
