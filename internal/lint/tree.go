// SPDX-License-Identifier: Apache-2.0

// Package lint holds the rules that the source tree keeps, as code. A rule looks
// at a Tree and gives findings; the package's tests run every rule on this
// repository, and on small bad examples in testdata that it must reject.
//
// Rules marked excusable can be excused in one place by a comment on the line
// itself or on the line before it, which must say why:
//
//	//remora:allow RULE why it is better so
package lint

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// Module is the path of the module whose rules these are.
const Module = "github.com/remora-go/remora"

// Tree is the source tree as the rules see it.
type Tree struct {
	FS   fs.FS
	Fset *token.FileSet
	Go   []*File           // every Go file outside testdata, in path order
	Text map[string][]byte // every text file, by slash-separated path
}

// File is one parsed Go file.
type File struct {
	Path      string // from the root of the tree, slash-separated
	Dir       string // "." for the root
	Test      bool   // its name ends in _test.go
	Generated bool
	Lines     int
	AST       *ast.File
}

// Finding is one place where a rule is broken.
type Finding struct {
	Rule string
	Path string
	Line int // 0: the file as a whole
	Msg  string
}

// String gives path:line, the rule and the message.
func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %s: %s", f.Path, f.Line, f.Rule, f.Msg)
}

// Load reads a tree. Build output, hidden directories other than .ci, and this
// package's own bad examples are left out.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{FS: fsys, Fset: token.NewFileSet(), Text: map[string][]byte{}}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if skipDir(p) {
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || p == ".git" { // a file in a git work tree
			return nil
		}
		return t.add(p)
	})
	return t, err
}

func skipDir(p string) bool {
	switch base := path.Base(p); {
	case p == ".", base == ".ci":
		return false
	case p == "internal/lint/testdata", base == "node_modules":
		return true
	case p == "bin", p == "dist":
		return true
	default:
		return strings.HasPrefix(base, ".")
	}
}

func (t *Tree) add(p string) error {
	src, err := fs.ReadFile(t.FS, p)
	if err != nil {
		return err
	}
	if bytes.IndexByte(src, 0) >= 0 {
		return nil // not text
	}
	t.Text[p] = src
	if !strings.HasSuffix(p, ".go") || strings.Contains("/"+p, "/testdata/") {
		return nil
	}
	f, err := parser.ParseFile(t.Fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	t.Go = append(t.Go, &File{
		Path: p, Dir: path.Dir(p), AST: f,
		Test:      strings.HasSuffix(p, "_test.go"),
		Generated: ast.IsGenerated(f),
		Lines:     bytes.Count(src, []byte("\n")),
	})
	return nil
}

// Packages gives the directories that hold Go files other than tests, sorted.
func (t *Tree) Packages() []string {
	var dirs []string
	for _, f := range t.Go {
		if !f.Test {
			dirs = append(dirs, f.Dir)
		}
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

// at makes a Finding for a place in a Go file; Run fills in the rule.
func (t *Tree) at(pos token.Pos, format string, args ...any) Finding {
	p := t.Fset.Position(pos)
	return Finding{Path: p.Filename, Line: p.Line, Msg: fmt.Sprintf(format, args...)}
}

func (t *Tree) line(pos token.Pos) int { return t.Fset.Position(pos).Line }

// sortFindings orders by path, line and rule.
func sortFindings(all []Finding) {
	slices.SortFunc(all, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Rule, b.Rule), cmp.Compare(a.Msg, b.Msg))
	})
}
