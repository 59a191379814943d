// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"os"
	"path/filepath"
	"testing"
)

func TestBinaryDropsDeadCode(t *testing.T) {
	n, err := ReflectMethods("../..", "./cmd/remora")
	if err != nil {
		t.Fatal(err)
	}
	if n != 0 {
		t.Errorf("%d functions keep every exported method in the binary, want none: "+
			"see go build -ldflags=-dumpdep ./cmd/remora 2>&1 | grep ReflectMethod", n)
	}
}

func TestReflectMethodsAreFound(t *testing.T) {
	for _, c := range []struct {
		name, src string
		found     bool
	}{
		{"a method by name", `package main

import (
	"os"
	"reflect"
)

func main() { reflect.ValueOf(os.Stdout).MethodByName(os.Args[0]).Call(nil) }
`, true},
		{"no reflection", `package main

func main() { println("hello") }
`, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for name, data := range map[string]string{"main.go": c.src, "go.mod": "module bad\n\ngo 1.26\n"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			n, err := ReflectMethods(dir, ".")
			if err != nil {
				t.Fatal(err)
			}
			if (n > 0) != c.found {
				t.Errorf("found %d, want any: %v", n, c.found)
			}
		})
	}
}
