// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
)

// holds asks the specimen itself what is at an address.
func holds(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: [!] holds ADDR TEXT")
	}
	want := strings.ReplaceAll(args[1], `\0`, "\x00")
	got := make([]byte, len(want))
	ts.Check(on(ts).s.Peek(got, remora.Addr(number64(ts, args[0]))))
	if (string(got) == want) == neg {
		ts.Fatalf("%s holds %q", args[0], got)
	}
}

// filtered: a filter stands between remora and process_vm_*.
func filtered(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, "filtered CODE ARG...")
	out, err := specimen.Run(context.Background(), &specimen.RunOptions{RefuseVM: int(unix.EPERM)}, "remora", args[1:]...)
	fmt.Fprint(ts.Stdout(), out)
	if err != nil {
		fmt.Fprint(ts.Stderr(), err)
	}
	checkCode(ts, err, args[0])
}
