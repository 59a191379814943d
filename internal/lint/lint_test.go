// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestTree runs every rule on this repository.
func TestTree(t *testing.T) {
	tree, err := Load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Go) < 20 {
		t.Fatalf("only %d Go files found: is this the root of the tree?", len(tree.Go))
	}
	for _, f := range Run(tree, Rules()) {
		t.Error(f)
	}
}

// TestBadExamples runs one rule on each small tree in testdata, named RULE.txtar or
// RULE-anything.txtar. Its file "want" holds the findings, which must be all. "@@" is
// taken out everywhere, so that this tree need not hold what it must not hold.
func TestBadExamples(t *testing.T) {
	rejected := map[string]bool{}
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		base := strings.TrimSuffix(filepath.Base(name), ".txtar")
		rule, _, _ := strings.Cut(base, "-")
		t.Run(base, func(t *testing.T) {
			tree, want := example(t, name)
			var got []string
			for _, f := range Run(tree, only(t, rule)) {
				got = append(got, f.String())
				rejected[f.Rule] = true
			}
			if diff := cmp.Diff(strings.Join(want, "\n"), strings.Join(got, "\n")); diff != "" {
				t.Errorf("findings differ (-want +got):\n%s", diff)
			}
		})
	}
	for _, r := range Rules() {
		if !rejected[r.Name] {
			t.Errorf("no example in testdata is rejected by rule %s", r.Name)
		}
	}
}

// example reads a tree and the findings that it must give. A line of the form
// "@repeat N TEXT" stands for N lines of TEXT.
func example(t *testing.T, name string) (*Tree, []string) {
	t.Helper()
	ar, err := txtar.ParseFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fsys := fstest.MapFS{}
	var want []string
	for _, f := range ar.Files {
		data := repeat(t, strings.ReplaceAll(string(f.Data), "@@", ""))
		if f.Name == "want" {
			want = strings.Split(strings.TrimSpace(data), "\n")
			if want[0] == "" {
				want = nil
			}
			continue
		}
		fsys[f.Name] = &fstest.MapFile{Data: []byte(data), Mode: fs.ModePerm}
	}
	tree, err := Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	return tree, want
}

func only(t *testing.T, name string) []Rule {
	t.Helper()
	for _, r := range Rules() {
		if r.Name == name {
			return []Rule{r}
		}
	}
	t.Fatalf("no rule is called %q", name)
	return nil
}

func repeat(t *testing.T, data string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(data) {
		args, ok := strings.CutPrefix(line, "@repeat ")
		if !ok {
			b.WriteString(line)
			continue
		}
		count, text, _ := strings.Cut(args, " ")
		n, err := strconv.Atoi(count)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(strings.Repeat(text, n))
	}
	return b.String()
}
