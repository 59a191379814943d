// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"bytes"
	"path"
	"regexp"
	"slices"
	"strings"
)

// tag is split, so that this file holds one licence line.
const tag = "SPDX-" + "License-Identifier: "

// checkSPDX wants "// TAG Apache-2.0" as the first line of a Go file and an empty
// line after it; in scripts and the Makefile, within the first two lines.
func checkSPDX(t *Tree) []Finding {
	var all []Finding
	for p, src := range t.Text {
		goFile := strings.HasSuffix(p, ".go")
		if !goFile && !isScript(p, src) || strings.Contains("/"+p, "/testdata/") {
			continue
		}
		head := bytes.SplitN(src, []byte("\n"), 3)
		ok := len(head) == 3 && string(head[0]) == "// "+tag+"Apache-2.0" && len(head[1]) == 0
		if !goFile {
			line := "# " + tag + "Apache-2.0"
			ok = len(head) == 3 && (string(head[0]) == line || string(head[1]) == line)
		}
		switch n := bytes.Count(src, []byte(tag)); {
		case !ok:
			all = append(all, Finding{Path: p, Line: 1, Msg: "does not begin with its licence line"})
		case n != 1:
			all = append(all, Finding{Path: p, Line: 1, Msg: "more than one licence line"})
		}
	}
	return all
}

func isScript(p string, src []byte) bool {
	return path.Base(p) == "Makefile" || bytes.HasPrefix(src, []byte("#!"))
}

// hosts matches what belongs to one machine and not into a repository. The
// brackets keep each pattern from matching itself.
var hosts = regexp.MustCompile(`/wor[k]/[a-z.]|bash[_]jobs|/roo[t]/[a-z.]|` +
	`(deb|security|snapshot)[.]debian[.]org|(proxy|sum)[.]golang[.]org|goprox[y][.]|` +
	`registry[.]npmjs[.]org|pypi[.]org|localhost:[0-9]+/go`)

func checkHosts(t *Tree) []Finding {
	var all []Finding
	for p, src := range t.Text {
		for i, line := range bytes.Split(src, []byte("\n")) {
			if m := hosts.Find(line); m != nil {
				all = append(all, Finding{Path: p, Line: i + 1, Msg: "names " + string(m)})
			}
		}
	}
	return all
}

// maxReadme is in lines.
const maxReadme = 150

// checkReadme holds README.md against the tree: its length, its Go example, and the
// lists of packages.
func checkReadme(t *Tree) []Finding {
	src, ok := t.Text["README.md"]
	if !ok {
		return []Finding{{Path: "README.md", Msg: "is missing"}}
	}
	var all []Finding
	if n := bytes.Count(src, []byte("\n")); n >= maxReadme {
		all = append(all, Finding{Path: "README.md", Msg: "150 lines or more"})
	}
	all = append(all, checkExample(t, string(src))...)
	return append(all, checkPackageLists(t)...)
}

var goBlock = regexp.MustCompile("(?s)```go\n(.*?)```")

// checkExample wants the body of each Go block to stand in an Example function,
// line for line, indentation aside.
func checkExample(t *Tree, readme string) []Finding {
	blocks := goBlock.FindAllStringSubmatch(readme, -1)
	var all []Finding
	for _, b := range blocks {
		if !inExample(t, unindent(b[1])) {
			all = append(all, Finding{Path: "README.md", Msg: "a Go example is not the body of a runnable Example: " + firstLine(b[1])})
		}
	}
	return all
}

func inExample(t *Tree, code string) bool {
	for p, src := range t.Text {
		if !strings.HasSuffix(p, "_test.go") {
			continue
		}
		for _, fn := range exampleFunc.FindAllString(string(src), -1) {
			if strings.Contains(fn, "// Output:") && strings.Contains(unindent(fn), code) {
				return true
			}
		}
	}
	return false
}

var exampleFunc = regexp.MustCompile(`(?ms)^func Example\w*\(\) \{.*?^\}`)

func unindent(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// ours tells whether a directory is for this project alone.
func ours(dir string) bool {
	top, _, _ := strings.Cut(dir, "/")
	return top == "internal" || top == "bench"
}

// packageLine is a row of a list of packages: | `name` | what it holds |.
var packageLine = regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)` \\|")

// checkPackageLists wants every package in a list, and nothing else there: those that
// users import in README.md, the others in ARCHITECTURE.md.
func checkPackageLists(t *Tree) []Finding {
	var all []Finding
	for _, file := range []string{"README.md", "ARCHITECTURE.md"} {
		var have, listed []string
		for _, dir := range t.Packages() {
			if ours(dir) == (file == "ARCHITECTURE.md") {
				have = append(have, listName(dir))
			}
		}
		for _, m := range packageLine.FindAllSubmatch(t.Text[file], -1) {
			listed = append(listed, string(m[1]))
		}
		for _, name := range have {
			if !slices.Contains(listed, name) {
				all = append(all, Finding{Path: file, Msg: "does not list package " + name})
			}
		}
		for _, name := range listed {
			if !slices.Contains(have, name) {
				all = append(all, Finding{Path: file, Msg: "lists package " + name + ", which is not there"})
			}
		}
	}
	return all
}

// listName is how a list names a package: the root by its name.
func listName(dir string) string {
	if dir == "." {
		return "remora"
	}
	return dir
}
