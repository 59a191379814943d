// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// mutant is one entry of a list.
//
//	mutant NAME FILE RULE...
//	-old text
//	+new text
//
//	same FILE WHY...
//	-old text
//
// The old text is in FILE exactly once. It need not be whole lines: several "-" lines are
// joined by newlines, as are the "+" lines. The second form says of a check that
// nobody could tell if it were missing, and why.
type mutant struct {
	name     string // "" in the second form
	file     string
	rule     string
	old, new string
	line     int // in the list
}

// list is a file of mutants.
type list struct {
	files   []string // "files FILE...": those whose checks all must be in the list
	mutants []mutant
	same    []mutant
	sources map[string][]byte
}

const listFile = "testdata/mutants.txt"

// readList reads the list of a package, and the sources that it changes.
func readList(dir string) (*list, error) {
	text, err := os.ReadFile(filepath.Join(dir, listFile))
	if err != nil {
		return nil, err
	}
	l, err := parseList(string(text))
	if err != nil {
		return nil, err
	}
	l.sources = map[string][]byte{}
	for _, f := range l.files {
		if l.sources[f], err = os.ReadFile(filepath.Join(dir, f)); err != nil {
			return nil, err
		}
	}
	return l, l.check()
}

func parseList(text string) (*list, error) {
	l := new(list)
	var cur *mutant
	for i, line := range strings.Split(text, "\n") {
		head, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || line[0] == '#':
			cur = nil
		case line[0] == '-' && cur != nil:
			cur.old = join(cur.old, line[1:])
		case line[0] == '+' && cur != nil && cur.name != "":
			cur.new = join(cur.new, line[1:])
		case head == "files":
			l.files = append(l.files, strings.Fields(rest)...)
		case head == "mutant":
			name, rest, _ := strings.Cut(rest, " ")
			file, rule, _ := strings.Cut(rest, " ")
			l.mutants = append(l.mutants, mutant{name: name, file: file, rule: rule, line: i + 1})
			cur = &l.mutants[len(l.mutants)-1]
		case head == "same":
			file, why, _ := strings.Cut(rest, " ")
			l.same = append(l.same, mutant{file: file, rule: why, line: i + 1})
			cur = &l.same[len(l.same)-1]
		default:
			return nil, fmt.Errorf("line %d: %q", i+1, line)
		}
	}
	return l, nil
}

// join adds a line. The first one cannot be empty, which saves knowing whether there is one.
func join(text, line string) string {
	if text == "" {
		return line
	}
	return text + "\n" + line
}

// check holds the entries against the sources.
func (l *list) check() error {
	var all []error
	bad := func(m mutant, format string, args ...any) {
		all = append(all, fmt.Errorf("line %d: %s %s: %s", m.line, m.name, m.file, fmt.Sprintf(format, args...)))
	}
	if len(l.mutants) == 0 {
		return errors.New("no mutants")
	}
	names := map[string]bool{}
	for _, m := range append(l.mutants, l.same...) {
		src, ok := l.sources[m.file]
		switch n := bytes.Count(src, []byte(m.old)); {
		case !ok:
			bad(m, "not one of the files")
		case m.rule == "" || m.old == "":
			bad(m, "says no rule, or changes nothing")
		case n != 1:
			bad(m, "the old text is there %d times", n)
		case m.name != "" && (m.old == m.new || names[m.name]):
			bad(m, "is not new")
		}
		names[m.name] = true
	}
	return errors.Join(all...)
}

// span is a part of a source, in bytes.
type span struct{ from, to int }

// meets says whether two parts overlap. One without bytes, where something is put in, meets what it
// is in or beside.
func (s span) meets(o span) bool {
	if s.from == s.to {
		return o.from <= s.from && s.from <= o.to
	}
	return s.from < o.to && o.from < s.to
}

// span gives what a mutant changes: its old text without what the new one begins
// and ends with as well.
func (l *list) span(m mutant) span {
	from := bytes.Index(l.sources[m.file], []byte(m.old))
	if m.name == "" {
		return span{from, from + len(m.old)}
	}
	a, b := m.old, m.new
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b, from = a[1:], b[1:], from+1
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return span{from, from + len(a)}
}

// mutated gives the source with a mutant's change.
func (l *list) mutated(m mutant) []byte {
	return bytes.Replace(l.sources[m.file], []byte(m.old), []byte(m.new), 1)
}
