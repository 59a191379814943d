// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/remora-go/remora/target"
)

// man writes a page in the macros of man(7).
type man struct{ strings.Builder }

func newMan(name, short string) *man {
	m := &man{}
	m.WriteString(".\\\" Written by \"make docs\" from internal/cli.\n")
	fmt.Fprintf(m, ".TH %s 1\n.SH NAME\n%s \\- %s\n", strings.ToUpper(roff(name)), roff(name), roff(short))
	return m
}

// roff keeps text from being taken for requests.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func (m *man) section(name string) { fmt.Fprintf(m, ".SH %s\n", strings.ToUpper(roff(name))) }

// item is a term and what it means.
func (m *man) item(term, text string) { fmt.Fprintf(m, ".TP\n.B %s\n%s\n", roff(term), roff(text)) }

func (m *man) paragraphs(text string) {
	for i, p := range strings.Split(text, "\n\n") {
		if i > 0 {
			m.WriteString(".PP\n")
		}
		m.WriteString(roff(p) + "\n")
	}
}

func (m *man) flags(name string, flags *pflag.FlagSet) {
	list := flagsOf(flags)
	if len(list) == 0 {
		return
	}
	m.section(name)
	for _, f := range list {
		m.item(f.form, f.text)
	}
}

func rootMan(root *cobra.Command) string {
	m := newMan("remora", root.Short)
	m.section("synopsis")
	m.WriteString(".B remora\n.I VERB\n[flags] [arguments]\n")
	m.section("verbs")
	for _, c := range commands() {
		m.item(c.Name, c.Short+"; see remora-"+c.Name+"(1)")
	}
	m.section("targets")
	for _, f := range target.Forms() {
		m.item(f[0], f[1])
	}
	m.section("ranges")
	for _, f := range spanForms {
		m.item(f[0], f[1])
	}
	m.flags("flags of every verb", root.PersistentFlags())
	m.section("exit status")
	for _, o := range outcomes() {
		m.item(fmt.Sprint(o.code), o.what)
	}
	return m.String()
}

func verbMan(c *cobra.Command) string {
	m := newMan("remora-"+c.Name(), c.Short)
	m.section("synopsis")
	fmt.Fprintf(m, ".B remora %s\n[flags] %s\n", roff(c.Name()), roff(strings.TrimPrefix(strings.TrimPrefix(c.Use, c.Name()), " ")))
	m.section("description")
	m.paragraphs(c.Long)
	m.flags("flags", c.LocalNonPersistentFlags())
	if c.Example != "" {
		m.section("examples")
		fmt.Fprintf(m, ".EX\n%s\n.EE\n", roff(c.Example))
	}
	m.section("see also")
	m.WriteString("remora(1), for the flags of every verb, targets, ranges and exit codes\n")
	return m.String()
}
