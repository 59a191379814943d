// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/remora-go/remora"
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
