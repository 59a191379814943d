// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/vmlab"
)

// run runs the command.
func run(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Main(t.Context(), args, Stdio{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }})
	return code, out.String(), errs.String()
}

// TestRealPs runs ps on an image of each machine, and on one without user pages.
func TestRealPs(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			lab := vmlab.Open(t, machine)
			truth, file := lab.Truth(), lab.Dump(vmlab.ELF)
			threads := truth.Witness("threads")
			code, out, errs := run(t, "ps", file)
			if code != 0 || errs != "" || !strings.Contains(out, "[kthreadd]") || strings.Count(out, "\n>") != 2 {
				t.Errorf("exit %d, %s\n%s", code, errs, out)
			}
			code, out, errs = run(t, "ps", file, "-T", fmt.Sprint(threads.Pid))
			if n := strings.Count(out, "thread-"); code != 0 || errs != "" || n != len(threads.Threads) {
				t.Errorf("%d threads, exit %d, %s\n%s", n, code, errs, out)
			}
			if code, out, _ := run(t, "ps", file, "no-such-name"); code != 1 || out != "" {
				t.Errorf("a name that nothing has: exit %d, %q", code, out)
			}
			code, out, errs = run(t, "ps", file, "-a", "--json", fmt.Sprint(threads.Pid), "init")
			var list taskList
			if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || errs != "" || len(list.Tasks) < 2 {
				t.Fatalf("exit %d, %s %v\n%s", code, errs, err, out)
			}
			for _, row := range list.Tasks {
				for what, got := range map[string][]string{"cmdline": row.Argv, "environ": row.Env} {
					want := string(truth.File("proc/%d/%s", row.PID, what))
					if row.PID == row.TGID && strings.Join(append(got, ""), "\x00") != want {
						t.Errorf("%s of %d is %q, not %q", what, row.PID, got, want)
					}
				}
			}
			if machine.Kernel != vmlab.AMD64v6_1 || machine.NoVMCOREINFO || machine.MiB != 0 {
				return
			}
			code, out, errs = run(t, "ps", "-a", lab.Dump(vmlab.MakedumpfileZlib31))
			if code != 5 || strings.Count(out, "not known: ") != 4 || !strings.Contains(errs, "not saved in this dump") || !strings.Contains(out, "[kthreadd]") {
				t.Errorf("without user pages: exit %d, %s\n%s", code, errs, out)
			}
		})
	}
}
