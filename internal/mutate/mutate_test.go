// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const source = `package small

func small(n int, ok bool) int {
	if ok && n > 10 {
		return 10
	}
	return max(n, 0)
}
`

const sourceTest = `package small

import "testing"

func TestR1Cap(t *testing.T) {
	if small(11, true) != 10 || small(3, true) != 3 || small(-1, true) != 0 {
		t.Fatal("wrong")
	}
}
`

// full changes every check of source, the last of them so that no test notices.
const full = `files small.go

mutant cap small.go R1: at most 10
-n > 10
+false

mutant least small.go R2: at least 0
-	return max(n, 0)
-}
+	return n
+}

mutant unless small.go R3: only if it is so
-if ok &&
+if true &&
`

// module writes a module of one package with a list, and gives its directory.
func module(t *testing.T, list string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module small\n\ngo 1.26\n", "small.go": source, "small_test.go": sourceTest, listFile: list} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func mutate(dir, only string, dry bool) (string, error) {
	var out bytes.Buffer
	o := options{only: regexp.MustCompile(only), dry: dry, workers: 2, first: "^TestR", out: &out}
	err := o.run(context.Background(), dir)
	return out.String(), err
}

func TestSurvivorsAreFound(t *testing.T) {
	dir := module(t, full)
	out, err := mutate(dir, "", false)
	if err == nil || err.Error() != "unless: no test notices" {
		t.Errorf("%v", err)
	}
	for _, row := range []string{`(?m)^cap +R1: at most 10 +TestR1Cap$`, `(?m)^least +R2: at least 0 +TestR1Cap$`, `(?m)^unless .* SURVIVES$`, `2 of 3 mutants caught`} {
		if !regexp.MustCompile(row).MatchString(out) {
			t.Errorf("no %s in\n%s", row, out)
		}
	}
	if src, err := os.ReadFile(filepath.Join(dir, "small.go")); err != nil || string(src) != source {
		t.Error("the source was changed")
	}
	if _, err := mutate(dir, "^none$", false); err == nil {
		t.Error("no mutant was tried, and that was good")
	}
}

func TestWhatDoesNotCompileIsNotCaught(t *testing.T) {
	if _, err := mutate(module(t, strings.Replace(full, "+false", "+none", 1)), "cap", false); err == nil || !strings.Contains(err.Error(), "does not compile") {
		t.Error(err)
	}
}

func TestTestsMustPassUnchanged(t *testing.T) {
	dir := module(t, full)
	if err := os.WriteFile(filepath.Join(dir, "small_test.go"), []byte(strings.Replace(sourceTest, "!= 3", "!= 4", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := mutate(dir, "cap", false); err == nil || !strings.Contains(err.Error(), "TestR1Cap fails without any change") {
		t.Error(err)
	}
}

func TestLists(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"as it is", "", "", ""},
		{"not found", "-n > 10", "-n > 11", "the old text is there 0 times"},
		{"found twice", "-n > 10\n+false", "-n\n+m", "the old text is there"},
		{"one name twice", "mutant least", "mutant cap", "is not new"},
		{"no change", "+false", "+n > 10", "is not new"},
		{"no rule", "R1: at most 10", "", "says no rule"},
		{"another file", "cap small.go", "cap large.go", "not one of the files"},
		{"not an entry", "mutant cap", "mutation cap", `"mutation cap`},
		{"a check without a mutant", "-if ok &&\n+if true &&", "-	return 10\n+	return 9", "small.go:4: no mutant changes ok"},
		{"two checks in one", "-if ok &&\n+if true &&", "-if ok && n > 10 {\n+if n > 9 || !ok {", "small.go:4: no mutant changes ok"},
		{"said to make no difference", "mutant unless small.go R3: only if it is so\n-if ok &&\n+if true &&", "same small.go nobody asks\n-if ok &&", ""},
	} {
		_, err := mutate(module(t, strings.Replace(full, c.old, c.new, 1)), "", true)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct{ out, want string }{
		{"=== RUN   TestA\n    a_test.go:1: wrong\n--- FAIL: TestA (0.00s)\n=== RUN   TestB\nFAIL\n", "TestA"},
		{"=== RUN   TestA\n--- PASS: TestA (0.00s)\n=== RUN   TestB\npanic: test timed out after 1s\nrunning tests:\n\tTestB (1s)\n", "TestB (does not end)"},
		{"=== RUN   TestA\n--- FAIL: TestA (0.00s)\npanic: index out of range\n", "TestA (panics)"},
		{"=== RUN   TestA\nfatal error: all goroutines are asleep\n", "TestA (crashes)"},
		{"", "a test"},
	} {
		if got := verdict([]byte(c.out)).String(); got != c.want {
			t.Errorf("%q: %s, want %s", c.out, got, c.want)
		}
	}
}
