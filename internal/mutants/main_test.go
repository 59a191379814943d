// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A list that no longer fits its package proves nothing.
func TestListsFit(t *testing.T) {
	lists, err := filepath.Glob("../../*/*/testdata/mutants")
	if err != nil || len(lists) == 0 {
		t.Fatal(lists, err)
	}
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			t.Fatal(err)
		}
		all, err := parse(string(text))
		if err != nil {
			t.Fatalf("%s: %v", list, err)
		}
		names := map[string]bool{}
		for _, m := range all {
			_, changed, err := m.apply(filepath.Dir(filepath.Dir(list)))
			if err != nil {
				t.Errorf("%s: %s: %v", list, m.name, err)
			} else if !strings.Contains(string(changed), m.new) {
				t.Errorf("%s: %s is not applied", list, m.name)
			}
			if names[m.name] {
				t.Errorf("%s: two changes are called %s", list, m.name)
			}
			names[m.name] = true
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"", "# name\n-a\n+b\n", "file.go\n-a\n", "# name\nfile.go\n+b\n"} {
		if all, err := parse(text); err == nil {
			t.Errorf("%q gives %v", text, all)
		}
	}
}
