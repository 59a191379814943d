// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"path"
	"strconv"
	"strings"
)

// layer says what the files of one package may import besides the standard library.
// Tests may import more: see checkLayers.
type layer struct {
	pkg     string // from the root of the module; "." is the root
	may     string // packages of this module, separated by spaces; a * ends a prefix
	modules string // other modules
	tests   string // "only": only tests import it, and packages like it. "too": any test may
}

// layers is the picture in ARCHITECTURE.md as a table, from the bottom up. A package
// that is not in it is a finding.
var layers = []layer{
	{pkg: "."},
	{pkg: "internal/xfer", may: "."},
	{pkg: "memtest", may: ".", tests: "only"},
	{pkg: "memfault", may: ".", tests: "only"},
	{pkg: "compose", may: ". internal/xfer"},
	{pkg: "paging", may: ". internal/xfer"},

	{pkg: "internal/access"},
	{pkg: "internal/elfcore", may: "."},
	{pkg: "internal/testimage", tests: "only", modules: "github.com/anchore/go-lzo github.com/klauspost/compress"},
	{pkg: "internal/qmp", may: "internal/sys/*"},
	{pkg: "internal/rsp"},
	{pkg: "internal/rsp/rsptest", tests: "only"},
	{pkg: "internal/sys/linux", modules: "golang.org/x/sys"},
	{pkg: "internal/sys/windows", modules: "golang.org/x/sys"},
	{pkg: "internal/sys/darwin", modules: "golang.org/x/sys"},
	{pkg: "internal/sys/freebsd", modules: "golang.org/x/sys"},

	{pkg: "proc", may: ". internal/xfer compose internal/access internal/sys/*"},
	{pkg: "usercore", may: ". internal/xfer compose internal/elfcore"},
	{pkg: "vmcore", may: ". internal/xfer compose internal/access internal/elfcore internal/sys/*",
		modules: "github.com/klauspost/compress github.com/anchore/go-lzo"},
	{pkg: "guest", may: ". compose internal/access internal/xfer internal/sys/* internal/qmp internal/rsp"},
	{pkg: "sym", may: "."},
	{pkg: "btf", may: "."},
	{pkg: "kernel", may: ". btf internal/xfer paging sym"},
	{pkg: "scan", may: "."},
	{pkg: "internal/specimen", may: ". internal/sys/*", tests: "too"},
	{pkg: "internal/testneed", tests: "only"},
	{pkg: "internal/specimen/specimentest", may: ". internal/specimen", tests: "only"},
	{pkg: "internal/difftest", may: ". internal/specimen", tests: "only"},
	{pkg: "target", may: ". btf compose guest proc usercore vmcore kernel paging sym"},
	{pkg: "compat"},
	{pkg: "compat/errno", may: "."},
	{pkg: "compat/processvm", may: ". compat/errno internal/access internal/sys/*"},
	{pkg: "compat/rwmem", may: ". proc compat/errno internal/sys/*"},
	{pkg: "compat/kvm", may: ". compat/errno compose kernel proc sym target internal/elfcore internal/sys/* internal/xfer"},
	{pkg: "internal/cli", may: ". btf compat/kvm compose guest internal/sys/* proc usercore vmcore kernel paging scan sym target internal/access internal/specimen",
		modules: "github.com/spf13/cobra github.com/spf13/pflag golang.org/x/term"},
	{pkg: "cmd/remora", may: "internal/cli internal/specimen"},

	{pkg: "internal/vmlab/witness", tests: "only"},
	{pkg: "internal/vmlab/pid1", modules: "golang.org/x/sys", tests: "only"},
	{pkg: "internal/vmlab/errand", tests: "only"},
	{pkg: "internal/vmlab/agent", may: "internal/sys/* internal/vmlab/errand internal/vmlab/pid1", modules: "golang.org/x/sys", tests: "only"},
	{pkg: "internal/vmlab/guest", may: "internal/vmlab/pid1 internal/vmlab/witness", modules: "golang.org/x/sys", tests: "only"},
	{pkg: "internal/vmlab", may: ". internal/qmp internal/sys/* internal/testneed internal/vmlab/errand internal/vmlab/witness", tests: "only"},
	{pkg: "internal/inside", may: ". internal/sys/* internal/vmlab", tests: "only"},
	{pkg: "internal/lint", tests: "only"},
	{pkg: "internal/testsum"},
	{pkg: "internal/mutate"},
	{pkg: "bench", may: ". bench/internal/* internal/* internal/sys/* proc vmcore kernel target compat/processvm memtest", tests: "only"},
	{pkg: "bench/internal/measure", may: "internal/sys/*", tests: "only"},
	{pkg: "bench/internal/report", may: "bench/internal/measure", tests: "only"},
	{pkg: "bench/internal/draw", may: "bench/internal/report", modules: "gonum.org/v1/plot", tests: "only"},
	{pkg: "bench/internal/play", may: ". internal/qmp internal/sys/* proc sym vmcore kernel target compat/processvm memtest", modules: "golang.org/x/sys github.com/go-delve/delve github.com/klauspost/compress", tests: "only"},
}

// testModules may be imported by any test.
const testModules = "github.com/google/go-cmp github.com/rogpeppe/go-internal " +
	"go.uber.org/goleak golang.org/x/sys pgregory.net/rapid"

// barred are packages of the standard library that must not reach the binary, and why.
var barred = map[string]string{
	"text/template": "it switches off dead-code elimination",
	"html/template": "it switches off dead-code elimination",
	"plugin":        "it needs cgo",
	"syscall":       "internal/sys is the one door to the system",
}

// checkLayers holds every import against the table. A test may import whatever
// its package may, what is there for tests, its own package, x/sys, and the test
// modules; to import anything else of this module is a test of another layer.
func checkLayers(t *Tree) []Finding {
	var all []Finding
	for _, f := range t.Go {
		l, ok := layerOf(f.Dir)
		if !ok {
			all = append(all, t.at(f.AST.Package, "package %s is not in the table in internal/lint/layers.go", f.Dir))
			continue
		}
		for _, spec := range f.AST.Imports {
			imp, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				continue // the parser has seen to it
			}
			if why := l.refuses(f, imp); why != "" {
				all = append(all, t.at(spec.Pos(), "%s may not import %s: %s", f.Dir, imp, why))
			}
		}
	}
	return all
}

func layerOf(dir string) (layer, bool) {
	for _, l := range layers {
		if l.pkg == dir {
			return l, true
		}
	}
	return layer{}, false
}

// refuses gives the reason why a file may not import imp, or "".
func (l layer) refuses(f *File, imp string) string {
	if own, ok := ownPackage(imp); ok {
		to, known := layerOf(own)
		switch {
		case l.allows(own), f.Test && own == f.Dir:
			return ""
		case known && to.tests != "" && (f.Test || l.tests == "only"):
			return ""
		case known && to.tests == "only":
			return "only tests import it"
		}
		return "the table in internal/lint/layers.go has no such arrow"
	}
	if !strings.Contains(strings.Split(imp, "/")[0], ".") {
		why, bad := barred[imp]
		if !bad || f.Test || imp == "syscall" && strings.HasPrefix(l.pkg, "internal/sys/") {
			return ""
		}
		return why
	}
	if inModules(l.modules, imp) || f.Test && inModules(testModules, imp) {
		return ""
	}
	return "a module that this package does without"
}

func (l layer) allows(own string) bool {
	for _, p := range strings.Fields(l.may) {
		if ok, _ := path.Match(p, own); ok {
			return true
		}
	}
	return false
}

// ownPackage gives the path below the module, "." for the root.
func ownPackage(imp string) (string, bool) {
	if imp == Module {
		return ".", true
	}
	return strings.CutPrefix(imp, Module+"/")
}

func inModules(list, imp string) bool {
	for _, m := range strings.Fields(list) {
		if imp == m || strings.HasPrefix(imp, m+"/") {
			return true
		}
	}
	return false
}
