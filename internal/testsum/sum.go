// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

// event is one line of "go test -json"; see "go doc test2json".
type event struct {
	Action, Package, Test, Output, ImportPath string
	Elapsed                                   float64
}

// counts is the outcome of one run. Subtests count as tests.
type counts struct {
	Phase          string
	Packages       int
	Passed, Failed int
	Skipped        []string
	Broken         []string // packages that failed without a failing test: a build, a panic

	outputs            map[string]*bytes.Buffer // by package and test, of those not ended
	passedIn, failedIn map[string]int           // by package
}

// ok says whether the run is good; a strict one allows no skip.
func (c *counts) ok(strict bool) bool {
	return c.Failed == 0 && len(c.Broken) == 0 && c.Passed > 0 && (!strict || len(c.Skipped) == 0)
}

// summarize reads events and writes the readable form as they come.
func summarize(r io.Reader, w io.Writer) (*counts, error) {
	c := &counts{outputs: map[string]*bytes.Buffer{}, failedIn: map[string]int{}, passedIn: map[string]int{}}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadBytes('\n')
		if len(bytes.TrimSpace(line)) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil {
				if _, err := w.Write(line); err != nil { // not an event: go itself complains
					return nil, err
				}
			} else {
				c.see(w, e)
			}
		}
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (c *counts) see(w io.Writer, e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Fprint(w, e.Output)
	case "output":
		if c.outputs[key] == nil {
			c.outputs[key] = new(bytes.Buffer)
		}
		c.outputs[key].WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			c.endPackage(w, e)
		} else {
			c.endTest(w, e, c.outputs[key])
			delete(c.outputs, key)
		}
	}
}

func (c *counts) endTest(w io.Writer, e event, out *bytes.Buffer) {
	switch e.Action {
	case "pass":
		c.Passed++
		c.passedIn[e.Package]++
	case "skip":
		c.Skipped = append(c.Skipped, short(e.Package)+" "+e.Test+": "+reason(out))
	case "fail":
		c.Failed++
		c.failedIn[e.Package]++
		if out != nil {
			fmt.Fprint(w, out)
		}
	}
}

func (c *counts) endPackage(w io.Writer, e event) {
	if e.Action == "skip" { // no test files
		c.forget(e.Package)
		return
	}
	c.Packages++
	if e.Action == "fail" {
		if c.failedIn[e.Package] == 0 {
			c.Broken = append(c.Broken, short(e.Package))
		}
		c.show(w, e.Package)
	}
	c.forget(e.Package)
	fmt.Fprintf(w, "  %-4s  %-28s %5d tests %7.1fs\n", e.Action, short(e.Package), c.passedIn[e.Package]+c.failedIn[e.Package], e.Elapsed)
}

// show prints what a package and its unfinished tests have said.
func (c *counts) show(w io.Writer, pkg string) {
	var keys []string
	for k := range c.outputs {
		if strings.HasPrefix(k, pkg+" ") {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		fmt.Fprint(w, c.outputs[k])
	}
}

func (c *counts) forget(pkg string) {
	for k := range c.outputs {
		if strings.HasPrefix(k, pkg+" ") {
			delete(c.outputs, k)
		}
	}
}

// reason is what a skipped test gave as its reason.
func reason(out *bytes.Buffer) string {
	if out == nil {
		return "no reason given"
	}
	var said []string
	for line := range strings.Lines(out.String()) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "=== ") && !strings.HasPrefix(line, "--- ") {
			said = append(said, line)
		}
	}
	return strings.Join(said, "; ")
}

// short leaves out the path of the module.
func short(pkg string) string {
	const module = "github.com/remora-go/remora"
	if pkg == module {
		return "remora"
	}
	return strings.TrimPrefix(pkg, module+"/")
}

func (c *counts) appendTo(name string) error {
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// closing prints the counts of all runs in a tally, and every skip.
func closing(w io.Writer, tally io.Reader, strict bool) (ok bool, err error) {
	var sum counts
	dec := json.NewDecoder(tally)
	fmt.Fprintf(w, "%-30s %8s %8s %8s %8s\n", "run", "packages", "passed", "failed", "skipped")
	row := func(c *counts) {
		fmt.Fprintf(w, "%-30s %8d %8d %8d %8d\n", c.Phase, c.Packages, c.Passed, c.Failed+len(c.Broken), len(c.Skipped))
	}
	for {
		var c counts
		if err := dec.Decode(&c); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return false, err
		}
		row(&c)
		sum.Packages += c.Packages
		sum.Passed += c.Passed
		sum.Failed += c.Failed
		sum.Skipped = append(sum.Skipped, c.Skipped...)
		sum.Broken = append(sum.Broken, c.Broken...)
	}
	sum.Phase = "all"
	row(&sum)
	for _, s := range sum.Skipped {
		fmt.Fprintln(w, "skipped:", s)
	}
	if strict && len(sum.Skipped) > 0 {
		fmt.Fprintln(w, "REMORA_REQUIRE=all: a skipped test is a failed one")
	}
	return sum.ok(strict), nil
}
