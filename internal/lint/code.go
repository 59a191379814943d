// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"go/ast"
	"path"
	"slices"
	"strings"
)

// systems are the GOOS and GOARCH names that may follow _unsafe in a file name.
var systems = []string{"linux", "windows", "darwin", "freebsd", "unix", "other",
	"amd64", "arm64", "386", "riscv64", "s390x"}

func checkUnsafe(t *Tree) []Finding {
	var all []Finding
	for _, f := range t.Go {
		for _, spec := range f.AST.Imports {
			if spec.Path.Value == `"unsafe"` && !unsafeName(f.Path) {
				all = append(all, t.at(spec.Pos(), "unsafe is used in a file not named *_unsafe.go"))
			}
		}
		all = append(all, uncommented(t, f)...)
	}
	return all
}

// unsafeName says whether a file is named as holding unsafe code: a last element
// "unsafe" before _test and the names of systems.
func unsafeName(p string) bool {
	parts := strings.Split(strings.TrimSuffix(path.Base(p), ".go"), "_")
	for len(parts) > 1 {
		last := parts[len(parts)-1]
		if last == "unsafe" {
			return true
		}
		if last != "test" && !slices.Contains(systems, last) {
			return false
		}
		parts = parts[:len(parts)-1]
	}
	return false
}

// uncommented finds the uses of unsafe.X without a comment: on one of the lines
// of the statement or declaration it stands in, or on the line before that.
// Sizeof and its like are constants, and need none.
func uncommented(t *Tree, f *File) []Finding {
	commented := map[int]bool{}
	for _, g := range f.AST.Comments {
		for l := t.line(g.Pos()); l <= t.line(g.End()); l++ {
			commented[l] = true
		}
	}
	var all []Finding
	var stack []ast.Node
	ast.Inspect(f.AST, func(n ast.Node) bool {
		if n == nil {
			stack = stack[:len(stack)-1]
			return true
		}
		stack = append(stack, n)
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if id, ok := sel.X.(*ast.Ident); !ok || id.Name != "unsafe" || slices.Contains(sizes, sel.Sel.Name) {
			return true
		}
		first, last := t.line(sel.Pos()), t.line(sel.Pos())
		if s := enclosing(stack); s != nil {
			first = t.line(s.Pos())
		}
		for l := first - 1; l <= last; l++ {
			if commented[l] {
				return true
			}
		}
		all = append(all, t.at(sel.Pos(), "unsafe.%s without a comment that says why it is sound", sel.Sel.Name))
		return true
	})
	return all
}

var sizes = []string{"Sizeof", "Offsetof", "Alignof"}

// enclosing gives the innermost statement or declaration of a stack of nodes.
func enclosing(stack []ast.Node) ast.Node {
	for _, n := range slices.Backward(stack) {
		switch n.(type) {
		case *ast.BlockStmt:
			return nil
		case ast.Stmt, ast.Decl:
			return n
		}
	}
	return nil
}

func checkCgo(t *Tree) []Finding {
	var all []Finding
	for _, f := range t.Go {
		for _, spec := range f.AST.Imports {
			if spec.Path.Value == `"C"` {
				all = append(all, t.at(spec.Pos(), "cgo is not used here"))
			}
		}
	}
	return all
}

func checkInit(t *Tree) []Finding {
	var all []Finding
	for _, f := range t.Go {
		for _, d := range f.AST.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				all = append(all, t.at(fn.Pos(), "init runs in every program that imports this"))
			}
		}
	}
	return all
}

// vague are package names that say nothing.
var vague = []string{"util", "utils", "common", "helper", "helpers", "types", "misc", "base", "shared", "lib"}

func checkNames(t *Tree) []Finding {
	var all []Finding
	for _, f := range t.Go {
		name := strings.TrimSuffix(f.AST.Name.Name, "_test")
		if slices.Contains(vague, name) || strings.ContainsRune(name, '_') {
			all = append(all, t.at(f.AST.Name.Pos(), "package %s: say in one noun what it holds", name))
		}
	}
	return all
}

// checkSpace asks each type with both methods of remora.Space to say that it is one.
func checkSpace(t *Tree) []Finding {
	type key struct{ dir, name string }
	methods := map[key]int{}
	place := map[key]ast.Node{}
	said := map[key]bool{}
	for _, f := range t.Go {
		if f.Test {
			continue
		}
		for _, d := range f.AST.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil || d.Name.Name != "Transfer" && d.Name.Name != "Info" || !spaceShape(d) {
					continue
				}
				k := key{f.Dir, receiver(d)}
				methods[k]++
				place[k] = d
			case *ast.GenDecl:
				for _, s := range d.Specs {
					if v, ok := s.(*ast.ValueSpec); ok && v.Names[0].Name == "_" && isSpace(v.Type) && len(v.Values) == 1 {
						said[key{f.Dir, converted(v.Values[0])}] = true
					}
				}
			}
		}
	}
	var all []Finding
	for k, n := range methods {
		if n == 2 && !said[k] {
			all = append(all, t.at(place[k].Pos(), "%s is a Space: say var _ remora.Space = (*%[1]s)(nil)", k.name))
		}
	}
	return all
}

// spaceShape says whether Transfer takes three arguments, or Info none.
func spaceShape(d *ast.FuncDecl) bool {
	want := 0
	if d.Name.Name == "Transfer" {
		want = 3
	}
	return d.Type.Params.NumFields() == want
}

// receiver is the name of a method's type, without pointer and type parameters.
func receiver(d *ast.FuncDecl) string {
	return typeName(d.Recv.List[0].Type)
}

func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.ParenExpr:
		return typeName(e.X)
	case *ast.IndexExpr:
		return typeName(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

func isSpace(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name == "Space"
	case *ast.SelectorExpr:
		return e.Sel.Name == "Space"
	}
	return false
}

// converted is the T of (*T)(nil) or T{}.
func converted(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.CallExpr:
		return typeName(e.Fun)
	case *ast.CompositeLit:
		return typeName(e.Type)
	case *ast.UnaryExpr:
		return converted(e.X)
	}
	return ""
}
