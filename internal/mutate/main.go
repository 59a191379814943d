// SPDX-License-Identifier: Apache-2.0

// Command mutate finds out whether the tests of a package would notice if one of
// its checks were missing.
//
//	mutate DIR
//
// DIR/testdata/mutants.txt lists the mutants: one change of the source each, and the
// rule that it breaks. Each is compiled by way of an overlay, so the tree is never
// touched, and the tests of the package are run until one fails. It is an error when
// none does, when a change does not compile or does not fit the source exactly once, and
// when there is a check in the listed files that no mutant changes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
)

func main() {
	o := options{out: os.Stdout}
	only := flag.String("only", "", "try the mutants whose names match `regexp`")
	flag.BoolVar(&o.dry, "n", false, "check the list, and run nothing")
	flag.IntVar(&o.workers, "p", runtime.NumCPU(), "how many mutants are tried at a time")
	flag.StringVar(&o.first, "first", "^TestR[0-9]", "the tests that are run before the others")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err != nil || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: mutate [-only regexp] [-n] [-p workers] [-first regexp] DIR")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err = o.run(ctx, flag.Arg(0))
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}
