// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/vmlab"
)

// runVerb runs a command line, and gives what it prints and its exit code.
func runVerb(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = Main(t.Context(), args, Stdio{In: strings.NewReader(""), Out: &stdout, Err: &stderr})
	if stderr.Len() > 0 {
		t.Logf("remora %s: %s", strings.Join(args, " "), &stderr)
	}
	return stdout.String(), code
}

// TestRealLogVerbs runs dmesg, mods and vmcoreinfo on images of real kernels, and holds
// them against what the guests said.
func TestRealLogVerbs(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			lab := vmlab.Open(t, machine)
			image := lab.Dump(vmlab.ELF)
			testDmesg(t, lab, image)
			testMods(t, lab, image)
			out, code := runVerb(t, "vmcoreinfo", image, "OSRELEASE")
			if want := string(lab.Truth().File("proc/sys/kernel/osrelease")); code == 0 && out != want {
				t.Errorf("%d, %q, want %q", code, out, want)
			}
		})
	}
}

// testDmesg holds the log against syslog(2) of the guest, which has the level before each
// line.
func testDmesg(t *testing.T, lab *vmlab.Lab, image string) {
	t.Helper()
	out, code := runVerb(t, "dmesg", image)
	if code != 0 {
		t.Fatalf("exit code %d", code)
	}
	want := strings.Split(strings.TrimSuffix(string(lab.Truth().File("dmesg")), "\n"), "\n")
	got := strings.Split(out, "\n")
	same := map[string]int{}
	for _, line := range got {
		same[line]++
	}
	missing := 0
	for _, line := range want {
		_, text, _ := strings.Cut(line, ">")
		if _, thread, ok := strings.Cut(text, "][ "); ok { // CONFIG_PRINTK_CALLER
			_, rest, _ := strings.Cut(thread, "]")
			text = text[:strings.Index(text, "][ ")] + "]" + rest
		}
		if _, rest, ok := strings.Cut(text, "] "); ok && same[text] == 0 {
			text = rest // a line that follows another one of the same message
		}
		if same[text] == 0 {
			missing++
			t.Logf("not there: %q", text)
		}
		same[text]--
	}
	if missing > 0 || len(want) < 200 {
		t.Errorf("%d of %d lines are missing", missing, len(want))
	}
	clock, code := runVerb(t, "dmesg", image, "-T", "--level", "notice")
	line, _, _ := strings.Cut(clock, "\n")
	stamp, _, _ := strings.Cut(strings.TrimPrefix(line, "["), "]")
	at, err := time.ParseInLocation(time.ANSIC, stamp, time.Local)
	if code != 0 || err != nil || at.Year() < 2020 || !strings.Contains(line, "] Linux version ") && !strings.Contains(line, "] Booting Linux") {
		t.Errorf("%d, %v: %q", code, err, line)
	}
}

func testMods(t *testing.T, lab *vmlab.Lab, image string) {
	t.Helper()
	var list moduleList
	out, code := runVerb(t, "mods", image, "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 {
		t.Fatalf("%d, %v", code, err)
	}
	want := strings.Split(strings.TrimSuffix(string(lab.Truth().File("proc/modules")), "\n"), "\n")
	for i, m := range list.Modules {
		if line := fmt.Sprintf("%s %d ", m.Name, m.Size); i >= len(want) || !strings.HasPrefix(want[i], line) || len(m.Memory) == 0 {
			t.Errorf("%+v, want %q", m, want)
		}
	}
	out, code = runVerb(t, "mods", image, "virtio_b*")
	if len(list.Modules) != len(want) || code != 0 || !strings.HasPrefix(out, "virtio_blk ") || strings.Count(out, "\n") != 1 {
		t.Errorf("%d modules of %d; %d, %q", len(list.Modules), len(want), code, out)
	}
	if _, code := runVerb(t, "mods", image, "none"); code != 1 {
		t.Errorf("exit code %d of a module that is not there", code)
	}
}
