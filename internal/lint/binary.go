// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
)

// ReflectMethods counts the functions of a program for which the linker keeps every
// exported method, because they look one up by a name that only run time knows. One
// is enough to switch off dead-code elimination. dir is where the module is, pkg
// the main package.
func ReflectMethods(dir, pkg string) (int, error) {
	cmd := exec.Command("go", "build", "-o", os.DevNull, "-ldflags=-dumpdep", pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("go build %s: %w\n%s", pkg, err, out[:min(len(out), 2000)])
	}
	if !bytes.Contains(out, []byte("main.main")) {
		return 0, fmt.Errorf("go build %s: the linker did not print what it keeps", pkg)
	}
	return bytes.Count(out, []byte("<ReflectMethod>")), nil
}
