// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/vmcore"
)

// oracle is another program that reads kernel images. It gives what it saw, without what
// names the file or tells its format.
type oracle struct {
	name  string
	large bool // it wants an image that is not filtered
	look  func(t *testing.T, m *moment, file string) (string, error)
}

// oracles are those that there are with everything.
func oracles() []oracle {
	if !everything() {
		return nil
	}
	return []oracle{
		{"crash", false, lookCrash},
		{"drgn", false, lookDrgn},
		{"libkdumpfile", false, lookLibkdumpfile},
		{"makedumpfile", true, lookMakedumpfile},
	}
}

// TestRealOracles has other programs read what Remora wrote, and wants them to see what
// they see in the image that it was made of.
func TestRealOracles(t *testing.T) {
	for _, o := range oracles() {
		t.Run(o.name, func(t *testing.T) {
			m := openMoment(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
			crashed := withRAM(t, vmlab.OpenCrash(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1}))
			m.testOracle(t, o, vmlab.ELFPaging)
			crashed.testOracle(t, o, vmlab.Vmcore)
			if o.large {
				m.testOracle(t, o, vmlab.Vmcore)
			} else {
				m.testOracle(t, o, vmlab.KdumpZlib)
				m.testOracle(t, o, vmlab.MakedumpfileZlib31)
			}
		})
	}
}

// testOracle compares what a program sees in an image and in what it is converted to.
func (m *moment) testOracle(t *testing.T, o oracle, f vmlab.Format) {
	name := fmt.Sprintf("%s of %s", f, m.Machine)
	want, refused := o.look(t, m, m.Dump(f))
	if refused != nil {
		t.Logf("%s: the original is not read: %v", name, refused)
	}
	for _, to := range []vmcore.WriteOptions{asELF, asZlib, asZstd} {
		if o.name == "makedumpfile" && to.Codec == vmcore.Zstd {
			continue // Debian's is built without it
		}
		got, err := o.look(t, m, convert(t, m.Dump(f), to))
		switch {
		case err != nil && refused == nil:
			t.Errorf("%s, as %s %s: %v", name, to.To, to.Codec, err)
		case err != nil:
			t.Logf("%s, as %s %s: %v", name, to.To, to.Codec, err)
		case refused == nil && got != want:
			t.Errorf("%s, as %s %s: got\n%s\nwant\n%s", name, to.To, to.Codec, head(got), head(want))
		default:
			t.Logf("%s, as %s %s: %d bytes of answers", name, to.To, to.Codec, len(got))
		}
	}
}

// head gives the beginning of a text, for a message.
func head(s string) string { return s[:min(len(s), 3000)] }

// need looks for a program.
func need(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		testneed.Lacks(t, "needs the program "+name)
	}
	return path
}

// output runs a program with a text to read.
func output(t *testing.T, in, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(in)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		text := errs.String() + out.String()
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(name), err, text[max(0, len(text)-600):])
	}
	return out.String(), nil
}

// lookCrash has crash open an image, and list tasks, the log and some memory.
func lookCrash(t *testing.T, m *moment, file string) (string, error) {
	need(t, "crash")
	text, err := output(t, "sys\nps\nlog\nrd -8 linux_banner 128\nquit\n", "crash", "-s", m.Debug(), file)
	if err != nil {
		return "", err
	}
	if at := strings.Index(text, "KERNEL: "); at > 0 {
		text = text[at:] // before it, it warns of the processors' stacks, and of the file
	}
	var lines []string
	for line := range strings.Lines(text) {
		what, _, _ := strings.Cut(strings.TrimSpace(line), ":")
		if what != "DUMPFILE" && what != "DATE" {
			lines = append(lines, line)
		}
	}
	text = strings.Join(lines, "")
	release := strings.TrimSpace(string(m.Truth().File("proc/sys/kernel/osrelease")))
	if !strings.Contains(text, "RELEASE: "+release) || !strings.Contains(text, "Linux version "+release) {
		return "", fmt.Errorf("crash says %q", head(text))
	}
	return text, nil
}

// lookDrgn has drgn read physical and virtual memory, and list tasks.
func lookDrgn(t *testing.T, m *moment, file string) (string, error) {
	args := []string{"testdata/look.py", file, m.Debug()}
	for _, s := range m.Truth().Symbols() {
		if s.Module == "" && slices.Contains([]string{"_stext", "linux_banner", "init_task", "init_uts_ns"}, s.Name) {
			args = append(args, fmt.Sprintf("%x", s.Addr))
		}
	}
	text, err := output(t, "", drgn(t), args...)
	if err == nil && strings.Count(text, "\ntask ") < 50 {
		err = fmt.Errorf("drgn says %q", head(text))
	}
	return text, err
}

// lookLibkdumpfile reads all physical memory by the library.
func lookLibkdumpfile(t *testing.T, m *moment, file string) (string, error) {
	program := filepath.Join(t.TempDir(), "physical")
	if out, err := exec.Command(need(t, "gcc"), "-O2", "-o", program, "testdata/physical.c", "-lkdumpfile").CombinedOutput(); err != nil {
		testneed.Lacks(t, fmt.Sprintf("needs libkdumpfile for C: %s", out))
	}
	text, err := output(t, "", program, file, fmt.Sprint(m.end()/page))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d bytes, %x", len(text), sha256.Sum256([]byte(text))), nil
}

// lookMakedumpfile has makedumpfile filter an image, and print the kernel's log.
func lookMakedumpfile(t *testing.T, _ *moment, file string) (string, error) {
	dir := t.TempDir()
	report, err := output(t, "", need(t, "makedumpfile"), "--message-level", "30", "-d", "31", "-c", file, dir+"/filtered")
	if err != nil {
		return "", err
	}
	if _, err := output(t, "", "makedumpfile", "--dump-dmesg", file, dir+"/log"); err != nil {
		return "", err
	}
	numbers := excluded(t, report)
	maps.DeleteFunc(numbers, func(key string, _ int) bool { return !strings.HasSuffix(key, "pages") || !strings.Contains(key, " ") })
	for _, key := range []string{"Original pages", "Remaining pages", "Total pages"} {
		delete(numbers, key) // of segments that overlap, each page counts twice
	}
	return fmt.Sprintf("%v\n%s", numbers, readAll(t, dir+"/log")), nil
}
