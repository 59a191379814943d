// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"fmt"
	"go/ast"
)

// The hard limits, in lines. Those to aim for are 400 and 60.
const (
	maxFile = 600
	maxFunc = 100
)

func checkFileSize(t *Tree) []Finding {
	var all []Finding
	for _, f := range t.Go {
		if f.Lines > maxFile && !f.Generated {
			all = append(all, Finding{Path: f.Path, Msg: fmt.Sprintf("%d lines, at most %d", f.Lines, maxFile)})
		}
	}
	return all
}

func checkFuncSize(t *Tree) []Finding {
	var all []Finding
	for _, f := range t.Go {
		if f.Generated {
			continue
		}
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if n := t.line(fn.End()) - t.line(fn.Pos()) + 1; n > maxFunc {
				all = append(all, t.at(fn.Pos(), "%s has %d lines, at most %d", fn.Name.Name, n, maxFunc))
			}
		}
	}
	return all
}
