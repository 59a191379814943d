// SPDX-License-Identifier: Apache-2.0

// Command mutants proves that tests notice. It takes a package of this tree and a list
// of changes to it, each of which makes it wrong in one place, and runs the package's
// tests with each change alone. One that the tests pass with is a finding.
//
//	go run ./internal/mutants [-skip REGEXP] [-only TEXT] DIR LIST
//
// The tree itself is not touched: the changed file is laid over it (go help build, -overlay). In
// the list a change is a name, a file, and what is there now and instead of it:
//
//	# the number of elements has no limit
//	rw.go
//	-	case n > IOVMax:
//	+	case false:
//
// The lines after - must be in the file exactly once, together. Blank lines end a change.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// mutant is one change.
type mutant struct{ name, file, old, new string }

func main() {
	skip := flag.String("skip", "", "tests to leave out")
	only := flag.String("only", "", "only changes whose name has this")
	flag.Parse()
	if flag.NArg() != 2 {
		fmt.Fprintln(os.Stderr, "usage: mutants [-skip REGEXP] [-only TEXT] DIR LIST")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), flag.Arg(1), *skip, *only); err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}

func run(dir, list, skip, only string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return err
	}
	all, err := parse(string(text))
	if err != nil {
		return fmt.Errorf("%s: %w", list, err)
	}
	tmp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	lived, tried := 0, 0
	for _, m := range all {
		if !strings.Contains(m.name, only) {
			continue
		}
		tried++
		caught, err := m.test(dir, tmp, skip)
		switch {
		case err != nil:
			caught = "NOT TRIED: " + err.Error()
			lived++
		case caught == "":
			caught = "NOT CAUGHT"
			lived++
		}
		fmt.Printf("%-60s %s\n", m.name, caught)
	}
	fmt.Printf("%d changes, %d not caught\n", tried, lived)
	if lived > 0 || tried == 0 {
		return fmt.Errorf("%d of %d changes were not caught", lived, tried)
	}
	return nil
}

// parse reads a list.
func parse(text string) ([]mutant, error) {
	var all []mutant
	for block := range strings.SplitSeq(text, "\n\n") {
		var m mutant
		for line := range strings.SplitSeq(strings.Trim(block, "\n"), "\n") {
			switch {
			case strings.HasPrefix(line, "# "):
				m.name = line[2:]
			case strings.HasPrefix(line, "-"):
				m.old += line[1:] + "\n"
			case strings.HasPrefix(line, "+"):
				m.new += line[1:] + "\n"
			default:
				m.file = line
			}
		}
		if m.name == "" || m.file == "" || m.old == "" {
			return nil, fmt.Errorf("not a change: %q", block)
		}
		all = append(all, m)
	}
	return all, nil
}

// apply gives the path of the file and what is in it with the change.
func (m *mutant) apply(dir string) (path string, changed []byte, err error) {
	if path, err = filepath.Abs(filepath.Join(dir, m.file)); err != nil {
		return "", nil, err
	}
	src, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	if n := bytes.Count(src, []byte(m.old)); n != 1 {
		return "", nil, fmt.Errorf("%s has it %d times:\n%s", m.file, n, m.old)
	}
	return path, bytes.Replace(src, []byte(m.old), []byte(m.new), 1), nil
}

// test runs the tests with the change, and gives the first that failed, or "" if none did. A
// change that does not compile is an error.
func (m *mutant) test(dir, tmp, skip string) (string, error) {
	path, src, err := m.apply(dir)
	if err != nil {
		return "", err
	}
	changed, overlay := filepath.Join(tmp, "changed.go"), filepath.Join(tmp, "overlay.json")
	if err := os.WriteFile(changed, src, 0o600); err != nil {
		return "", err
	}
	list, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(overlay, list, 0o600); err != nil {
		return "", err
	}
	args := []string{"test", "-count=1", "-failfast", "-timeout=60s", "-vet=off", "-overlay=" + overlay}
	if skip != "" {
		args = append(args, "-skip="+skip)
	}
	cmd := exec.Command("go", append(args, ".")...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err == nil {
		return "", nil
	}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(line, "--- FAIL: "); ok {
			return strings.Fields(name)[0], nil
		}
		if strings.HasPrefix(line, "panic: ") {
			return strings.TrimSpace(line), nil
		}
	}
	return "", fmt.Errorf("it does not build:\n%s", out)
}
