// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"go/ast"
	"go/build"
	"go/token"
	"go/types"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// platforms are those whose files are looked at together, since a package is
// only complete for one.
var platforms = []string{"linux/amd64", "linux/arm64", "linux/386", "linux/s390x",
	"windows/amd64", "darwin/arm64", "freebsd/amd64"}

// global is one package-level variable.
type global struct {
	ident *ast.Ident
	typ   ast.Expr // nil: from the value
	value ast.Expr // nil: the zero value
}

// checkGlobals allows a package-level variable when it is a sync.Pool, or when
// its value is fixed at compile time or made by a function that is known to
// give a constant, and nothing in the tree assigns to it or takes its address.
func checkGlobals(t *Tree) []Finding {
	seen := map[Finding]bool{}
	for _, dir := range t.Packages() {
		for _, p := range platforms {
			for _, f := range globalsOn(t, dir, p) {
				seen[f] = true
			}
		}
	}
	var all []Finding
	for f := range seen {
		all = append(all, f)
	}
	return all
}

func globalsOn(t *Tree, dir, platform string) []Finding {
	files := filesOn(t, dir, platform)
	if len(files) == 0 {
		return nil
	}
	info := resolve(t, files)
	var all []Finding
	vars := map[types.Object]bool{}
	for _, f := range files {
		for _, g := range declared(f) {
			obj := info.Defs[g.ident]
			if obj == nil || isPool(g) {
				continue
			}
			vars[obj] = true
			if why := changeable(g, info); why != "" {
				all = append(all, t.at(g.ident.Pos(), "%s: %s", g.ident.Name, why))
			}
		}
	}
	for _, f := range files {
		for _, w := range writes(f, info) {
			obj := info.Uses[w]
			if pkg, ok := obj.(*types.PkgName); ok {
				if _, own := ownPackage(pkg.Imported().Path()); own {
					all = append(all, t.at(w.Pos(), "a variable of package %s is changed here", w.Name))
				}
			} else if vars[obj] {
				all = append(all, t.at(w.Pos(), "package-level variable %s is changed here", w.Name))
			}
		}
	}
	return all
}

// filesOn gives the parsed files of a package, tests aside, that a platform builds.
func filesOn(t *Tree, dir, platform string) []*ast.File {
	ctx := build.Default
	ctx.GOOS, ctx.GOARCH, _ = strings.Cut(platform, "/")
	ctx.CgoEnabled = false
	ctx.JoinPath = path.Join
	ctx.OpenFile = func(p string) (io.ReadCloser, error) { return t.FS.Open(p) }
	var files []*ast.File
	for _, f := range t.Go {
		if f.Dir != dir || f.Test {
			continue
		}
		if ok, err := ctx.MatchFile(dir, path.Base(f.Path)); ok && err == nil {
			files = append(files, f.AST)
		}
	}
	return files
}

type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, fs.ErrNotExist }

// resolve finds what each name refers to. Imports stay unknown: what they would
// add are types, and the rule needs none.
func resolve(t *Tree, files []*ast.File) *types.Info {
	info := &types.Info{
		Defs:       map[*ast.Ident]types.Object{},
		Uses:       map[*ast.Ident]types.Object{},
		Types:      map[ast.Expr]types.TypeAndValue{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
	}
	conf := types.Config{Importer: noImports{}, Error: func(error) {}}
	_, _ = conf.Check("p", t.Fset, files, info) // it must fail; what it found is true
	return info
}

func declared(f *ast.File) []global {
	var all []global
	for _, d := range f.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, s := range gen.Specs {
			v := s.(*ast.ValueSpec)
			for i, id := range v.Names {
				if id.Name == "_" {
					continue
				}
				g := global{ident: id, typ: v.Type}
				if i < len(v.Values) {
					g.value = v.Values[i]
				} else if len(v.Values) > 0 {
					g.value = v.Values[0] // one call, many results
				}
				all = append(all, g)
			}
		}
	}
	return all
}

func isPool(g global) bool {
	if g.value == nil {
		return qualified(g.typ) == "sync.Pool"
	}
	v := g.value
	if u, ok := v.(*ast.UnaryExpr); ok && u.Op == token.AND {
		v = u.X
	}
	lit, ok := v.(*ast.CompositeLit)
	return ok && qualified(lit.Type) == "sync.Pool"
}

// constant are functions whose result never changes, or that work once and then
// give the same for ever.
var constant = []string{"errors.New", "fmt.Errorf", "regexp.MustCompile", "strings.NewReplacer",
	"strings.Fields", "sync.OnceValue", "sync.OnceValues", "crc32.MakeTable"}

// changeable says why a variable can hold different things at different times, or
// does work before main; or gives "".
func changeable(g global, info *types.Info) string {
	if g.value == nil {
		if arr, ok := g.typ.(*ast.ArrayType); ok && arr.Len != nil {
			return "" // zeros to read from; writes to it are found elsewhere
		}
		return "declared without a value, so it is set later"
	}
	return changeableValue(g.value, info)
}

func changeableValue(e ast.Expr, info *types.Info) string {
	switch e := e.(type) {
	case *ast.BasicLit, *ast.FuncLit, *ast.Ident, *ast.SelectorExpr:
		return ""
	case *ast.ParenExpr:
		return changeableValue(e.X, info)
	case *ast.KeyValueExpr:
		return changeableValue(e.Value, info)
	case *ast.BinaryExpr:
		if why := changeableValue(e.X, info); why != "" {
			return why
		}
		return changeableValue(e.Y, info)
	case *ast.UnaryExpr:
		if e.Op == token.AND {
			return "points to something that can be changed through the pointer"
		}
		return changeableValue(e.X, info)
	case *ast.CompositeLit:
		for _, el := range e.Elts {
			if why := changeableValue(el, info); why != "" {
				return why
			}
		}
		if pkg, _, _ := strings.Cut(qualified(e.Type), "."); pkg == "sync" || pkg == "atomic" {
			return "made to be changed"
		}
		return ""
	case *ast.CallExpr:
		if info.Types[e.Fun].IsType() || slices.Contains(constant, qualified(e.Fun)) || isTypeSyntax(e.Fun) {
			return ""
		}
		return "made by a call before main; make it where it is used, or with sync.OnceValue"
	}
	return "not a value fixed at compile time"
}

// isTypeSyntax says whether an expression can only be a type, as in []byte("x").
func isTypeSyntax(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.ArrayType, *ast.MapType, *ast.FuncType, *ast.InterfaceType:
		return true
	case *ast.ParenExpr:
		_, star := e.X.(*ast.StarExpr)
		return star
	}
	return false
}

// qualified gives "pkg.Name" for such an expression, type arguments dropped.
func qualified(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.SelectorExpr:
		if id, ok := e.X.(*ast.Ident); ok {
			return id.Name + "." + e.Sel.Name
		}
	case *ast.IndexExpr:
		return qualified(e.X)
	}
	return ""
}

// writes gives the names whose variables a file assigns to, or whose address it
// takes; by a method with a pointer receiver too.
func writes(f *ast.File, info *types.Info) []*ast.Ident {
	var all []*ast.Ident
	add := func(e ast.Expr) {
		if id := root(e); id != nil {
			all = append(all, id)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					add(e)
				}
			}
		case *ast.IncDecStmt:
			add(n.X)
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				add(n.Key)
				add(n.Value)
			}
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				add(n.X)
			}
		case *ast.CallExpr:
			if id, ok := n.Fun.(*ast.Ident); ok && len(n.Args) > 0 && slices.Contains([]string{"clear", "delete", "copy"}, id.Name) {
				add(n.Args[0])
			}
		case *ast.SelectorExpr:
			if pointerMethod(n, info) {
				add(n.X)
			}
		}
		return true
	})
	return all
}

// root is the variable that an assignment to e changes: x for x[i], x.f and *x.
func root(e ast.Expr) *ast.Ident {
	for {
		switch v := e.(type) {
		case *ast.Ident:
			return v
		case *ast.IndexExpr:
			e = v.X
		case *ast.SelectorExpr:
			e = v.X
		case *ast.SliceExpr:
			e = v.X
		case *ast.StarExpr:
			e = v.X
		case *ast.ParenExpr:
			e = v.X
		default:
			return nil
		}
	}
}

// pointerMethod says whether a selector takes the address of what it selects from.
func pointerMethod(sel *ast.SelectorExpr, info *types.Info) bool {
	s := info.Selections[sel]
	if s == nil || s.Kind() != types.MethodVal {
		return false
	}
	recv := s.Obj().Type().(*types.Signature).Recv()
	_, wants := recv.Type().(*types.Pointer)
	_, has := s.Recv().(*types.Pointer)
	return wants && !has
}
