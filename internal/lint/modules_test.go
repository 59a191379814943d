// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"os"
	"strings"
	"testing"
)

// TestModules holds peers.mod, of the benchmark built with its peers, against go.mod: it has
// all that go.mod asks for, in the same versions, or the benchmark would measure another
// Remora.
func TestModules(t *testing.T) {
	ours, peers := direct(t, "../../go.mod"), direct(t, "../../peers.mod")
	if len(ours) == 0 || len(peers) <= len(ours) {
		t.Fatalf("%d modules in go.mod, %d in peers.mod", len(ours), len(peers))
	}
	for path, version := range ours {
		if peers[path] != version {
			t.Errorf("%s is %s in go.mod and %q in peers.mod", path, version, peers[path])
		}
	}
}

// direct gives the version of each module that a file asks for itself.
func direct(t *testing.T, name string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(strings.TrimPrefix(line, "require "))
		if len(words) == 2 && strings.HasPrefix(words[1], "v") {
			all[words[0]] = words[1]
		}
	}
	return all
}
