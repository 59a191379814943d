// SPDX-License-Identifier: Apache-2.0

package report

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	docs  = "../../../docs"
	again = "make it again: make peers, or bench -page docs"
)

// TestDocs holds the page, the figures and README.md against the results: all are made of
// docs/benchmarks.json. Until that has been measured there is none of them.
func TestDocs(t *testing.T) {
	f, err := Load(filepath.Join(docs, "benchmarks.json"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(docs, "benchmarks.md")); err == nil {
			t.Error("there is a page, and nothing that it is made of")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(docs, "benchmarks.md"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Markdown(f), string(page)); diff != "" {
		t.Errorf("docs/benchmarks.md is not that of the results; %s\n%s", again, diff)
	}
	readme, err := os.ReadFile(filepath.Join(docs, "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, missing, err := Readme(f, string(readme))
	if diff := cmp.Diff(want, string(readme)); diff != "" || err != nil {
		t.Errorf("README.md is not that of the results; %s (%v)\n%s", again, err, diff)
	}
	for _, m := range missing {
		t.Errorf("README.md is to show %s, and there is no such row", m)
	}
	checkFigures(t, f)
}

// checkFigures wants the figures of the results, by the notes that they carry, and no others.
func checkFigures(t *testing.T, f *File) {
	files, err := filepath.Glob(filepath.Join(docs, "benchmarks", "*.svg"))
	if err != nil {
		t.Fatal(err)
	}
	figures := Figures(f)
	if len(files) != len(figures) {
		t.Errorf("%d figures are there, and %d are of the results; %s", len(files), len(figures), again)
	}
	for _, fig := range figures {
		svg, err := os.ReadFile(filepath.Join(docs, "benchmarks", fig.Name+".svg"))
		if err != nil || !strings.Contains(string(svg), Note(&fig)) {
			t.Errorf("the figure %s is not that of the results; %s (%v)", fig.Name, again, err)
		}
	}
}

func TestReadme(t *testing.T) {
	f := sample()
	f.Rows[0].Sides[1].Name = "process_vm_readv in C"
	const frame = "before\n" + readmeBegin + "%\n" + readmeEnd + "after\n"
	page, missing, err := Readme(f, strings.Replace(frame, "%", "what was there", 1))
	if err != nil || len(missing) != len(picks())-1 {
		t.Errorf("%v; missing: %q", err, missing)
	}
	if !strings.HasPrefix(page, "before\n") || !strings.HasSuffix(page, readmeEnd+"after\n") || strings.Contains(page, "what was there") ||
		!strings.Contains(page, "| live process: read 8 B | process_vm_readv in C | 1.25× [1.24 – 1.26] | 800 ns |") {
		t.Error(page)
	}
	if again, _, err := Readme(f, page); err != nil || again != page {
		t.Errorf("made again it is another one (%v):\n%s", err, again)
	}
	if _, _, err := Readme(f, "nothing"); err == nil {
		t.Error("there is no place for rows, and that is no error")
	}
}
