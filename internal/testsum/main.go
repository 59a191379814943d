// SPDX-License-Identifier: Apache-2.0

// Command testsum reads the output of "go test -json" and prints what a person
// wants to see of it: a line a package, the output of what failed, the reason of
// each skip. It ends with 1 when a test failed, and, where REMORA_REQUIRE is
// "all", when one was skipped. Counts go to a file, so that several runs add up.
package main

import (
	"flag"
	"fmt"
	"os"
)

func main() {
	phase := flag.String("phase", "", "name of this run, for the closing count")
	tally := flag.String("tally", "", "file to which the counts are added")
	total := flag.Bool("total", false, "print the closing count from the tally, and read nothing")
	flag.Parse()
	strict := os.Getenv("REMORA_REQUIRE") == "all"
	ok, err := run(*phase, *tally, *total, strict)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testsum:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

func run(phase, tally string, total, strict bool) (ok bool, err error) {
	if total {
		f, err := os.Open(tally)
		if err != nil {
			return false, err
		}
		defer f.Close()
		return closing(os.Stdout, f, strict)
	}
	c, err := summarize(os.Stdin, os.Stdout)
	if err != nil {
		return false, err
	}
	c.Phase = phase
	if tally != "" {
		if err := c.appendTo(tally); err != nil {
			return false, err
		}
	}
	return c.ok(strict), nil
}
