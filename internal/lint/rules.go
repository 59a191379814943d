// SPDX-License-Identifier: Apache-2.0

package lint

import "strings"

// Rule is one thing the tree keeps to.
type Rule struct {
	Name      string
	Doc       string // what it asks for
	Excusable bool   // whether //remora:allow may excuse it
	Check     func(*Tree) []Finding
}

// Rules gives every rule.
func Rules() []Rule {
	return []Rule{
		{"layers", "imports follow the table in layers.go, arrows down only", false, checkLayers},
		{"unsafe", "unsafe only in *_unsafe.go, each use with a comment", false, checkUnsafe},
		{"cgo", "no cgo", false, checkCgo},
		{"init", "no init functions", false, checkInit},
		{"globals", "no package-level variable that can change, except sync.Pool", true, checkGlobals},
		{"filesize", "no file over 600 lines", true, checkFileSize},
		{"funcsize", "no function over 100 lines", true, checkFuncSize},
		{"names", "packages are nouns that say what they hold", false, checkNames},
		{"doc", "every exported thing is documented", false, checkDoc},
		{"pkgdoc", "every package has one package comment", false, checkPackageDoc},
		{"space", "a type that is a Space says so: var _ remora.Space = (*T)(nil)", false, checkSpace},
		{"spdx", "one licence line, at the top of every source file", false, checkSPDX},
		{"hosts", "no file names a machine's paths or a registry host", false, checkHosts},
		{"readme", "README is short, its example runs, its package list is true", false, checkReadme},
	}
}

// Run applies rules to the tree and gives what is not excused. An excuse that is
// not needed, not possible, or gives no reason is a finding too.
func Run(t *Tree, rules []Rule) []Finding {
	excusable := map[string]bool{}
	excuses := findExcuses(t)
	var all []Finding
	for _, r := range rules {
		excusable[r.Name] = r.Excusable
		for _, f := range r.Check(t) {
			f.Rule = r.Name
			if !r.Excusable || !excused(excuses, f) {
				all = append(all, f)
			}
		}
	}
	for _, e := range excuses {
		can, known := excusable[e.rule]
		f := Finding{Rule: "allow", Path: e.path, Line: e.line}
		switch {
		case !known && len(rules) < len(Rules()):
			continue // only some rules were asked for
		case !can:
			f.Msg = "no rule " + e.rule + " that can be excused"
		case e.why == "":
			f.Msg = "does not say why"
		case !e.used:
			f.Msg = "excuses nothing"
		default:
			continue
		}
		all = append(all, f)
	}
	sortFindings(all)
	return all
}

type excuse struct {
	path      string
	line      int
	rule, why string
	used      bool
}

func findExcuses(t *Tree) []*excuse {
	var all []*excuse
	for _, f := range t.Go {
		for _, group := range f.AST.Comments {
			for _, c := range group.List {
				text, ok := strings.CutPrefix(c.Text, "//remora:allow ")
				if !ok {
					continue
				}
				rule, why, _ := strings.Cut(text, " ")
				all = append(all, &excuse{path: f.Path, line: t.line(c.Pos()), rule: rule, why: strings.TrimSpace(why)})
			}
		}
	}
	return all
}

// excused says whether a comment excuses f, and marks it as used.
func excused(excuses []*excuse, f Finding) bool {
	for _, e := range excuses {
		if e.path == f.Path && e.rule == f.Rule && (f.Line == 0 || e.line == f.Line || e.line == f.Line-1) {
			e.used = true
			return true
		}
	}
	return false
}
