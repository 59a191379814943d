// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
)

// TestRealProcessVerbs runs the command on processes in an image.
func TestRealProcessVerbs(t *testing.T) {
	m := openMoment(t, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	dir := t.TempDir()
	v := &verbs{t: t, program: filepath.Join(dir, "remora")}
	if out, err := exec.Command("go", "build", "-o", v.program, "../cmd/remora").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	main, threads := m.Truth().Witness(witness.RoleMain), m.Truth().Witness(witness.RoleThreads)
	at := func(f vmlab.Format, pid int) string { return fmt.Sprintf("%s@%d", m.Dump(f), pid) }
	image := at(vmlab.ELF, main.Pid)

	v.run(0, "maps", image).is(m.Truth().File("proc/%d/maps", main.Pid))
	v.run(0, "cmdline", at(vmlab.KdumpZlib, threads.Pid), "-0").is(m.Truth().File("proc/%d/cmdline", threads.Pid))
	v.run(0, "cmdline", at(vmlab.ELF, threads.Pid), "-0", "--env").is(m.Truth().File("proc/%d/environ", threads.Pid))
	v.run(0, "maps", image, "-x").has("Untouch", "[stack]", "total kB")
	v.run(0, "info", image).has("process", "/init", "mappings")

	anon, _ := main.Find(witness.Anon)
	none, _ := main.Find(witness.None)
	span := fmt.Sprintf("0x%x+%d", anon.Start, len(witness.Marker))
	v.run(0, "read", image, span, "--raw").is([]byte(witness.Marker))
	want := make([]byte, none.End-none.Start)
	witness.Fill(want, none.Seed)
	v.run(0, "read", image, fmt.Sprintf("0x%x+%d", none.Start, len(want)), "--raw").is(want)
	v.run(5, "read", image, "0x10+4").errs("no mapping of the process holds it")
	v.run(5, "read", at(vmlab.MakedumpfileZlib31, main.Pid), span).errs("not saved in this dump")
	v.run(3, "maps", at(vmlab.ELF, 2)).errs("has no memory of its own")
	v.run(3, "maps", at(vmlab.ELF, 123456)).errs("no process or thread 123456")
	v.run(6, "maps", image, "--swap", m.Dump(vmlab.Vmcore)).errs("want SWAPSPACE2")
	v.run(0, "maps", image, "--swap", "0="+m.Dump(vmlab.Swap)).errs("of the same moment")

	core := filepath.Join(dir, "core")
	v.run(2, "dump", image).errs("-o FILE")
	v.run(0, "dump", image, "-o", core).has("bytes of memory")
	v.run(0, "read", "core:"+core, span, "--raw").is([]byte(witness.Marker))
	var doc struct {
		Threads int
		Missing uint64
	}
	if err := json.Unmarshal(v.run(0, "dump", image, "-o", core, "--json").out, &doc); err != nil || doc.Threads == 0 || doc.Missing != 0 {
		t.Errorf("%+v, %v", doc, err)
	}
	if st, err := os.Stat(core); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	v.run(5, "dump", at(vmlab.MakedumpfileZlib31, main.Pid), "-o", core).errs("not saved in this dump")

	mine := filepath.Join(dir, "elf")
	copyFile(t, m.Dump(vmlab.ELF), mine)
	v.run(0, "write", fmt.Sprintf("%s@%d", mine, main.Pid), fmt.Sprintf("0x%x", anon.Start), "0x41", "--as", "u8")
	v.run(0, "read", fmt.Sprintf("%s@%d", mine, main.Pid), span, "--raw").is([]byte("A" + witness.Marker[1:]))
}

// verbs runs the command.
type verbs struct {
	t       *testing.T
	program string
}

// ran is what became of a command.
type ran struct {
	t         *testing.T
	args      []string
	out, fail []byte
}

// run runs a verb, which must end with a code.
func (v *verbs) run(code int, args ...string) *ran {
	v.t.Helper()
	var out, fail bytes.Buffer
	cmd := exec.CommandContext(v.t.Context(), v.program, args...)
	cmd.Stdout, cmd.Stderr = &out, &fail
	err := cmd.Run()
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else if err != nil {
		v.t.Fatal(err)
	}
	if got != code {
		v.t.Errorf("%q ended with %d, want %d: %s", args, got, code, head(fail.String()))
	}
	return &ran{v.t, args, out.Bytes(), fail.Bytes()}
}

// is wants of the output to be exactly that.
func (r *ran) is(want []byte) {
	r.t.Helper()
	if !bytes.Equal(r.out, want) {
		r.t.Errorf("%q printed %d bytes, want %d:\n%s", r.args, len(r.out), len(want), linesApart(head(string(r.out)), head(string(want))))
	}
}

// has wants texts in the output, errs in what was said besides.
func (r *ran) has(texts ...string) {
	r.t.Helper()
	for _, s := range texts {
		if !strings.Contains(string(r.out), s) {
			r.t.Errorf("%q does not print %q:\n%s", r.args, s, head(string(r.out)))
		}
	}
}

func (r *ran) errs(texts ...string) {
	r.t.Helper()
	for _, s := range texts {
		if !strings.Contains(string(r.fail), s) {
			r.t.Errorf("%q does not say %q:\n%s", r.args, s, head(string(r.fail)))
		}
	}
}
