// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bufio"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/interfaces.md again")

const (
	doc   = "../docs/interfaces.md"
	begin = "<!-- rules: written by make docs -->\n"
	end   = "<!-- end of the rules -->\n"
)

// rule is one line of testdata/rules.txt.
type rule struct {
	number  int
	section string
	text    string
	untried string // why
}

// TestInterfacesDocument holds the table of rules in docs/interfaces.md against the
// tests of this tree, and wants one for every rule.
func TestInterfacesDocument(t *testing.T) {
	rules := readRules(t)
	tests := findTests(t)
	for _, r := range rules {
		if (len(tests[r.number]) == 0) != (r.untried != "") {
			t.Errorf("R%d: tests %v, and it says %q of why there is none", r.number, tests[r.number], r.untried)
		}
	}
	text, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the rules", doc)
	}
	want := before + begin + table(rules, tests) + end + after
	if string(text) == want {
		return
	}
	if !*update {
		t.Fatalf("%s is not up to date: run make docs", doc)
	}
	if err := os.WriteFile(doc, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readRules(t *testing.T) []rule {
	f, err := os.Open("testdata/rules.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rules []rule
	section := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if name, ok := strings.CutPrefix(line, "## "); ok {
			section = name
		}
		number, text, ok := strings.Cut(line, " ")
		if !strings.HasPrefix(number, "R") {
			continue
		}
		n, err := strconv.Atoi(number[1:])
		if err != nil || !ok || n != len(rules)+1 {
			t.Fatalf("%q: want rule R%d", line, len(rules)+1)
		}
		text, why, _ := strings.Cut(text, " | ")
		rules = append(rules, rule{n, section, text, why})
	}
	return rules
}

// findTests gives the tests of each rule: those whose name or comment has its number.
func findTests(t *testing.T) map[int][]string {
	found := make(map[int][]string)
	err := filepath.WalkDir("..", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		pkg := path.Dir(strings.TrimPrefix(filepath.ToSlash(name), "../"))
		for _, decl := range f.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			for _, n := range numbers(fn.Name.Name + " " + fn.Doc.Text()) {
				found[n] = append(found[n], pkg+"."+fn.Name.Name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for n := range found {
		slices.Sort(found[n])
		found[n] = slices.Compact(found[n])
	}
	return found
}

// A mention: R7, R100, or R61-R64, in a name R61ToR64.
var mention = regexp.MustCompile(`R(\d{1,3})(?:(?:-|To)R(\d{1,3}))?`)

func numbers(text string) []int {
	var list []int
	for _, m := range mention.FindAllStringSubmatch(text, -1) {
		first, _ := strconv.Atoi(m[1])
		last := first
		if m[2] != "" {
			last, _ = strconv.Atoi(m[2])
		}
		for n := first; n <= last; n++ {
			list = append(list, n)
		}
	}
	return list
}

// table prints the rules, a table for each section.
func table(rules []rule, tests map[int][]string) string {
	var b strings.Builder
	section := ""
	for _, r := range rules {
		if r.section != section {
			section = r.section
			fmt.Fprintf(&b, "\n### %s\n\n| rule | what it says | tests |\n|---|---|---|\n", section)
		}
		by := "not tried: " + r.untried
		if names := tests[r.number]; len(names) > 0 {
			by = "`" + strings.Join(names, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| R%d | %s | %s |\n", r.number, r.text, by)
	}
	return b.String() + "\n"
}
