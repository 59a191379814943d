// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
)

// check is a place where a program decides: a comparison, an operand of && or ||, another
// condition, or a cap by min or max.
type check struct {
	span
	line int
	text string
	in   int // which condition: operands of one && or || have the same
}

// unchanged says which checks of the files no entry of the list changes. An entry that
// changes several operands of one condition changes none of them: each is to be missed by itself.
func (l *list) unchanged() ([]string, error) {
	var all []string
	for _, file := range l.files {
		checks, err := checksOf(file, l.sources[file])
		if err != nil {
			return nil, err
		}
		seen := make([]bool, len(checks))
		for _, m := range slices.Concat(l.mutants, l.same) {
			if m.file != file {
				continue
			}
			for _, group := range met(checks, l.span(m)) {
				if len(group) == 1 || m.name == "" {
					for _, i := range group {
						seen[i] = true
					}
				}
			}
		}
		for i, c := range checks {
			if !seen[i] {
				all = append(all, fmt.Sprintf("%s:%d: no mutant changes %s", file, c.line, c.text))
			}
		}
	}
	return all, nil
}

// met gives the checks that s meets, by condition.
func met(checks []check, s span) map[int][]int {
	groups := map[int][]int{}
	for i, c := range checks {
		if s.meets(c.span) {
			groups[c.in] = append(groups[c.in], i)
		}
	}
	return groups
}

// checksOf finds the checks of a file.
func checksOf(name string, src []byte) ([]check, error) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	w := &walker{src: src, fset: fset, known: map[ast.Expr]bool{}}
	ast.Inspect(f, w.visit)
	slices.SortFunc(w.checks, func(a, b check) int { return a.from - b.from })
	return w.checks, nil
}

type walker struct {
	src    []byte
	fset   *token.FileSet
	known  map[ast.Expr]bool // is a check, or made of some
	checks []check
	groups int
}

func (w *walker) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.IfStmt:
		w.condition(n.Cond)
	case *ast.ForStmt:
		w.condition(n.Cond)
	case *ast.SwitchStmt:
		if n.Tag != nil {
			return true
		}
		for _, c := range n.Body.List {
			for _, e := range c.(*ast.CaseClause).List {
				w.condition(e)
			}
		}
	case *ast.BinaryExpr:
		if logical(n.Op) || compares(n.Op) {
			w.condition(n)
		}
	case *ast.CallExpr:
		if id, ok := n.Fun.(*ast.Ident); ok && (id.Name == "min" || id.Name == "max") {
			w.condition(n)
		}
	}
	return true
}

func logical(op token.Token) bool { return op == token.LAND || op == token.LOR }

func compares(op token.Token) bool {
	return slices.Contains([]token.Token{token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ}, op)
}

// condition notes the operands of e, if it has not been seen as part of another one.
func (w *walker) condition(e ast.Expr) {
	if e != nil && !w.known[e] {
		w.groups++
		w.operands(e)
	}
}

func (w *walker) operands(e ast.Expr) {
	w.known[e] = true
	switch x := e.(type) {
	case *ast.ParenExpr:
		w.operands(x.X)
		return
	case *ast.BinaryExpr:
		if logical(x.Op) {
			w.operands(x.X)
			w.operands(x.Y)
			return
		}
	}
	p := w.fset.Position(e.Pos())
	s := span{p.Offset, w.fset.Position(e.End()).Offset}
	w.checks = append(w.checks, check{span: s, line: p.Line, text: string(w.src[s.from:s.to]), in: w.groups})
}
