// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"go/ast"
	"go/token"
	"strings"
)

// plain are methods whose meaning their name says: they belong to an interface
// of the standard library.
var plain = map[string]bool{"Error": true, "Unwrap": true, "String": true}

func checkDoc(t *Tree) []Finding {
	var all []Finding
	for _, f := range t.Go {
		if f.Test || f.AST.Name.Name == "main" {
			continue
		}
		for _, d := range f.AST.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Name.IsExported() && d.Doc == nil && !plainMethod(d) {
					all = append(all, t.at(d.Pos(), "%s is exported and not documented", d.Name.Name))
				}
			case *ast.GenDecl:
				all = append(all, undocumented(t, d)...)
			}
		}
	}
	return all
}

// plainMethod says whether d needs no comment: one of plain, or a method of a
// type that is not exported.
func plainMethod(d *ast.FuncDecl) bool {
	return d.Recv != nil && (plain[d.Name.Name] || !token.IsExported(receiver(d)))
}

func undocumented(t *Tree, d *ast.GenDecl) []Finding {
	var all []Finding
	for _, s := range d.Specs {
		var name *ast.Ident
		var own bool
		switch s := s.(type) {
		case *ast.TypeSpec:
			name, own = s.Name, s.Doc != nil || s.Comment != nil
		case *ast.ValueSpec:
			name, own = s.Names[0], s.Doc != nil || s.Comment != nil
		default:
			continue
		}
		if name.IsExported() && !own && d.Doc == nil {
			all = append(all, t.at(s.Pos(), "%s is exported and not documented", name.Name))
		}
	}
	return all
}

// checkPackageDoc asks for exactly one comment, so that no two tell a different story.
func checkPackageDoc(t *Tree) []Finding {
	docs := map[string][]*File{}
	for _, f := range t.Go {
		if !f.Test && f.AST.Doc != nil {
			docs[f.Dir] = append(docs[f.Dir], f)
		}
	}
	var all []Finding
	for _, dir := range t.Packages() {
		switch have := docs[dir]; len(have) {
		case 0:
			all = append(all, Finding{Path: dir, Msg: "no package comment"})
		case 1:
			f := have[0]
			want := "Package " + f.AST.Name.Name + " "
			if f.AST.Name.Name == "main" {
				want = "Command "
			}
			if !strings.HasPrefix(f.AST.Doc.Text(), want) {
				all = append(all, t.at(f.AST.Doc.Pos(), "the package comment does not begin with %q", want))
			}
		default:
			for _, f := range have[1:] {
				all = append(all, t.at(f.AST.Doc.Pos(), "a second package comment; the first is in %s", have[0].Path))
			}
		}
	}
	return all
}
