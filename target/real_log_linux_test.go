// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
)

// TestRealLog holds the kernel's log in an image against what the guest said of it, and
// against makedumpfile.
func TestRealLog(t *testing.T) {
	for _, machine := range vmlab.Machines() {
		t.Run(machine.String(), func(t *testing.T) {
			m := openMoment(t, machine)
			k, _ := m.kernel(t, vmlab.ELF)
			log := readLog(t, k)
			m.testLog(t, log)
			if f := m.makedumpfileLog(); f != "" {
				testSameLog(t, m.Dump(f), log)
			}
		})
	}
	t.Run("crash", func(t *testing.T) {
		for _, machine := range vmlab.Crashes() {
			m := withRAM(t, vmlab.OpenCrash(t, machine))
			k, _ := m.kernel(t, vmlab.Vmcore)
			log := readLog(t, k)
			m.testLog(t, log)
			testSameLog(t, m.Dump(vmlab.Vmcore), log)
			small, _ := m.kernel(t, vmlab.MakedumpfileZlib31)
			if filtered := readLog(t, small); !slices.Equal(filtered, log) {
				t.Errorf("a filtered image has %d messages, the whole one %d, or others", len(filtered), len(log))
			}
			m.testModules(t, small)
			panics := func(r kernel.LogRecord) bool { return strings.HasPrefix(r.Text, "Kernel panic - not syncing: ") }
			if !slices.ContainsFunc(log, panics) {
				t.Error("the log of a crash has no panic")
			}
		}
	})
}

// makedumpfileLog gives an image that makedumpfile reads the log of, if there is one.
func (m *moment) makedumpfileLog() vmlab.Format {
	if strings.HasPrefix(m.Machine.Kernel, "amd64-6.1") && m.Machine.MiB <= 1<<10 && !m.Machine.NoVMCOREINFO {
		return vmlab.Vmcore
	}
	return ""
}

func readLog(t *testing.T, k *kernel.Kernel) (all []kernel.LogRecord) {
	t.Helper()
	for r, err := range k.Log(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Err != nil {
			t.Errorf("record %d: %v", r.Seq, r.Err)
		}
		all = append(all, r)
	}
	return all
}

// testLog holds the records against those of /dev/kmsg, of which each line is
//
//	PRIORITY,SEQ,MICROSECONDS,FLAGS[,caller=WHO];TEXT
//
// and has lines of KEY=VALUE behind it. More may have been logged since.
func (m *moment) testLog(t *testing.T, log []kernel.LogRecord) {
	t.Helper()
	i := 0
	var want string
	check := func() {
		if i > 0 && kmsg(&log[i-1]) != want {
			t.Fatalf("got\n%s\nwant\n%s", kmsg(&log[i-1]), want)
		}
	}
	for line := range strings.Lines(string(m.Truth().File("kmsg"))) {
		if strings.HasPrefix(line, " ") {
			want += line
			continue
		}
		if check(); i == len(log) {
			t.Fatalf("%d records, and the guest had more: %s", i, line)
		}
		if i++; log[i-1].Lost {
			t.Errorf("record %d is lost", log[i-1].Seq)
		}
		head, text, _ := strings.Cut(line, ";")
		if at := strings.Index(head, ",caller="); at >= 0 {
			if who := head[at+len(",caller="):]; who != log[i-1].Caller.String() {
				t.Errorf("record %d is of %s, want %s", log[i-1].Seq, log[i-1].Caller, who)
			}
		}
		f := strings.SplitN(head, ",", 4)
		want = strings.Join(f[:3], ",") + ";" + text
	}
	if check(); i < 100 {
		t.Errorf("the guest had %d records", i)
	}
	t.Logf("%d records are the same, %d came later", i, len(log)-i)
}

// kmsg writes a record as /dev/kmsg does.
func kmsg(r *kernel.LogRecord) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d,%d,%d;%s\n", int(r.Facility)<<3|int(r.Level), r.Seq, r.Time/time.Microsecond, kmsgText(r.Text))
	if r.Subsystem != "" {
		fmt.Fprintf(&b, " SUBSYSTEM=%s\n", kmsgText(r.Subsystem))
	}
	if r.Device != "" {
		fmt.Fprintf(&b, " DEVICE=%s\n", kmsgText(r.Device))
	}
	return b.String()
}

func kmsgText(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c < ' ' || c >= 127 || c == '\\' {
			fmt.Fprintf(&b, `\x%02x`, c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// testSameLog wants makedumpfile to print the same: it leaves out records without text,
// and puts spaces before the lines that follow.
func testSameLog(t *testing.T, image string, log []kernel.LogRecord) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "log")
	if _, err := output(t, "", need(t, "makedumpfile"), "--dump-dmesg", image, name); err != nil {
		t.Fatal(err)
	}
	var want []byte
	for _, r := range log {
		if r.Text == "" {
			continue
		}
		line := r.Append(nil)
		indent := "\n" + strings.Repeat(" ", bytes.IndexByte(line, ']')+2)
		line = bytes.ReplaceAll(line[:len(line)-1], []byte("\n"), []byte(indent))
		want = append(append(want, line...), '\n')
	}
	got := readAll(t, name)
	if !bytes.Equal(got, want) {
		a, b := bytes.Split(got, []byte("\n")), bytes.Split(want, []byte("\n"))
		for i := range a {
			if i >= len(b) || !bytes.Equal(a[i], b[i]) {
				t.Fatalf("line %d of %d: makedumpfile has %q, want %q", i, len(a), a[i], b[min(i, len(b)-1)])
			}
		}
		t.Fatalf("makedumpfile has %d lines, want %d", len(a), len(b))
	}
	t.Log(strconv.Itoa(len(log)) + " records are as makedumpfile has them")
}
