// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/remora-go/remora/target"
)

var update = flag.Bool("update", false, "write docs/commands and docs/man again")

// TestDocs holds docs/commands and docs/man against the table of verbs. "make docs" runs
// it with -update.
func TestDocs(t *testing.T) {
	v := &invocation{io: Stdio{In: strings.NewReader(""), Out: io.Discard, Err: io.Discard}}
	v.env = &Env{}
	root := v.root()
	want := map[string]string{"commands/README.md": indexPage(root), "man/remora.1": rootMan(root)}
	for _, c := range root.Commands() {
		want["commands/"+c.Name()+".md"] = page(c)
		want["man/remora-"+c.Name()+".1"] = verbMan(c)
	}
	docs := filepath.Join("..", "..", "docs")
	if *update {
		write(t, docs, want)
	}
	for _, dir := range []string{"commands", "man"} {
		entries, err := os.ReadDir(filepath.Join(docs, dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if _, ok := want[dir+"/"+e.Name()]; !ok {
				t.Errorf("docs/%s/%s is of no verb", dir, e.Name())
			}
		}
	}
	for name, text := range want {
		got, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil || string(got) != text {
			t.Errorf("docs/%s is out of date (%v): run \"make docs\"", name, err)
		}
	}
}

// write puts the pages there, and nothing else.
func write(t *testing.T, docs string, want map[string]string) {
	t.Helper()
	for _, dir := range []string{"commands", "man"} {
		if err := os.RemoveAll(filepath.Join(docs, dir)); err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(docs, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range want {
		if err := os.WriteFile(filepath.Join(docs, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEveryVerbIsWhole finds verbs without a text, an example or a script.
func TestEveryVerbIsWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range commands() {
		if seen[c.Name] {
			t.Errorf("%s is there twice", c.Name)
		}
		seen[c.Name] = true
		if c.Short == "" || c.Long == "" || c.New == nil || c.Short[0] >= 'A' && c.Short[0] <= 'Z' || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s is not described as the others are", c.Name)
		}
		for _, line := range c.Examples {
			if !strings.Contains(line, "remora "+c.Name) && !strings.Contains(line, "make ") {
				t.Errorf("%s: %q is no example of it", c.Name, line)
			}
		}
		if _, err := os.Stat("testdata/script/" + c.Name + ".txtar"); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat("cmd_" + c.Name + ".go"); err != nil {
			t.Error(err)
		}
	}
}

const generated = "<!-- Written by \"make docs\" from internal/cli. -->\n"

func indexPage(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString(generated + "\n# The command remora\n\n| verb | |\n|---|---|\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, "| [%s](%s.md) | %s |\n", c.Name, c.Name, c.Short)
	}
	b.WriteString("\n## Targets\n\n| written as | |\n|---|---|\n")
	for _, f := range target.Forms() {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f[0], f[1])
	}
	b.WriteString("\n## Ranges\n\n| written as | |\n|---|---|\n")
	for _, f := range spanForms {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f[0], f[1])
	}
	b.WriteString("\nNumbers are decimal, `0x` or `0o`, with `K`, `M`, `G` or `T` behind them for powers of 1024.\n")
	b.WriteString("\n## Exit codes\n\n| code | `kind` in JSON | |\n|---|---|---|\n")
	for _, o := range outcomes() {
		fmt.Fprintf(&b, "| %d | `%s` | %s |\n", o.code, o.kind, o.what)
	}
	b.WriteString("\n## Flags of every verb\n\n" + flagTable(root.PersistentFlags()))
	return b.String()
}

func page(c *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n# remora %s: %s\n\n```\nremora %s [flags]%s\n```\n\n", generated, c.Name(), c.Short, c.Name(), strings.TrimPrefix(c.Use, c.Name()))
	b.WriteString(plain(c.Long) + "\n")
	if own := flagTable(c.LocalNonPersistentFlags()); own != "" {
		b.WriteString("\n## Flags\n\n" + own)
	}
	if c.Example != "" {
		fmt.Fprintf(&b, "\n## Examples\n\n```\n%s\n```\n", c.Example)
	}
	b.WriteString("\nThe flags of every verb, targets, ranges and exit codes are in the [overview](README.md).\n")
	return b.String()
}

// plain keeps * and < as they are.
func plain(s string) string {
	return strings.NewReplacer("*", `\*`, "<", `\<`, "_", `\_`).Replace(s)
}

func flagTable(flags *pflag.FlagSet) string {
	var b strings.Builder
	for _, f := range flagsOf(flags) {
		fmt.Fprintf(&b, "| `%s` | %s |\n", f.form, plain(strings.ReplaceAll(f.text, "|", `\|`)))
	}
	if b.Len() == 0 {
		return ""
	}
	return "| flag | |\n|---|---|\n" + b.String()
}

// flagDoc is a flag as it is typed, and what it does.
type flagDoc struct{ form, text string }

func flagsOf(flags *pflag.FlagSet) []flagDoc {
	var all []flagDoc
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value, text := pflag.UnquoteUsage(f)
		d := flagDoc{"--" + f.Name, text}
		if f.Shorthand != "" {
			d.form = "-" + f.Shorthand + ", " + d.form
		}
		if value != "" {
			d.form += " " + value
		}
		if f.DefValue != "" && !slices.Contains([]string{"false", "0", ""}, f.DefValue) {
			d.text += " (otherwise " + f.DefValue + ")"
		}
		all = append(all, d)
	})
	return all
}
