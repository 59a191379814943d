// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/remora-go/remora/target"
)

// root makes cobra's commands from the table. Help and usage are functions of our own:
// cobra's templates would bring text/template into the program.
func (v *invocation) root() *cobra.Command {
	root := &cobra.Command{
		Use:                        "remora",
		Short:                      "read and write the memory of processes and core files",
		Args:                       cobra.ArbitraryArgs,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		SilenceUsage:               true,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	asked := root.Flags().Bool("version", false, "print the version, as the verb does")
	root.RunE = func(cc *cobra.Command, args []string) error {
		if *asked && len(args) == 0 {
			c := versionCommand()
			return v.run(cc.Context(), &c, c.New(cc.Flags()), nil)
		}
		if len(args) == 0 {
			return usagef("a verb is missing; \"remora help\" lists them")
		}
		return usagef("%q is not a verb%s; \"remora help\" lists them", args[0], meant(root.SuggestionsFor(args[0])))
	}
	root.SetIn(v.io.In)
	root.SetOut(v.out)
	root.SetErr(v.io.Err)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if c == root {
			return usagef("%v", err)
		}
		return usagef("%s: %v", c.Name(), err)
	})
	v.globalFlags(root.PersistentFlags())
	root.PersistentFlags().BoolP("help", "h", false, "explain the verb")
	table := commands()
	for i := range table {
		root.AddCommand(v.cobra(&table[i]))
	}
	root.SetHelpFunc(func(c *cobra.Command, _ []string) { fmt.Fprint(v.out, helpText(c)) })
	root.SetUsageFunc(func(c *cobra.Command) error { return nil })
	v.env.root = root
	return root
}

// cobra makes one command of cobra's.
func (v *invocation) cobra(c *Command) *cobra.Command {
	cc := &cobra.Command{
		Use:     strings.TrimSpace(c.Name + " " + c.Args),
		Short:   c.Short,
		Long:    c.Long,
		Example: strings.Join(c.Examples, "\n"),
		Args:    cobra.ArbitraryArgs, // checkArgs looks at them
	}
	run := c.New(cc.Flags())
	cc.RunE = func(cc *cobra.Command, args []string) error {
		return v.run(cc.Context(), c, run, args)
	}
	cc.ValidArgsFunction = func(cc *cobra.Command, args []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return complete(cc.Context(), c, args, word)
	}
	return cc
}

func meant(names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; is " + strings.Join(names, " or ") + " meant?"
}

// helpText is the help of the command as a whole, or of one verb.
func helpText(c *cobra.Command) string {
	var b strings.Builder
	if c.HasParent() {
		verbHelp(&b, c)
	} else {
		rootHelp(&b, c)
	}
	return b.String()
}

func rootHelp(b *strings.Builder, root *cobra.Command) {
	fmt.Fprintf(b, "remora: %s\n\nUsage: remora VERB [flags] [arguments]\n\nVerbs:\n", root.Short)
	for _, c := range commands() {
		fmt.Fprintf(b, "  %-12s %s\n", c.Name, c.Short)
	}
	b.WriteString("\nTargets:\n")
	for _, f := range target.Forms() {
		fmt.Fprintf(b, "  %-12s %s\n", f[0], f[1])
	}
	b.WriteString("\nRanges:\n")
	for _, f := range spanForms {
		fmt.Fprintf(b, "  %-22s %s\n", f[0], f[1])
	}
	b.WriteString("\nExit codes:\n")
	for _, o := range outcomes() {
		fmt.Fprintf(b, "  %-12d %s\n", o.code, o.what)
	}
	fmt.Fprintf(b, "\nFlags of every verb:\n%s", flagText(root.PersistentFlags()))
	b.WriteString("\n\"remora help VERB\" tells more about one.\n")
}

func verbHelp(b io.Writer, c *cobra.Command) {
	fmt.Fprintf(b, "remora %s: %s\n\nUsage: remora %s [flags]%s\n", c.Name(), c.Short, c.Name(), strings.TrimPrefix(c.Use, c.Name()))
	if c.Long != "" {
		fmt.Fprintf(b, "\n%s\n", c.Long)
	}
	if own := flagText(c.LocalNonPersistentFlags()); own != "" {
		fmt.Fprintf(b, "\nFlags:\n%s", own)
	}
	fmt.Fprintf(b, "\nFlags of every verb:\n%s", flagText(c.InheritedFlags()))
	if c.Example != "" {
		fmt.Fprintf(b, "\nExamples:\n  %s\n", strings.ReplaceAll(c.Example, "\n", "\n  "))
	}
}

func flagText(flags *pflag.FlagSet) string { return flags.FlagUsagesWrapped(100) }
