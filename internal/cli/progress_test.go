// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestProgressIsForTerminals(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "f"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v := &invocation{io: Stdio{Err: f, Getenv: func(string) string { return "" }}}
	if v.progress("testing") != nil {
		t.Error("a file is no terminal")
	}
	v.io.Err = &bytes.Buffer{}
	bar := v.progress("testing")
	if bar != nil {
		t.Error("a buffer is no terminal")
	}
	bar.amount(1, 2) // nothing happens
	bar.found(1, "things")
	bar.end()
}

func TestProgressComesLateAndGoes(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out, what: "testing\x1b", begun: time.Now()}
	p.amount(1<<20, 2<<20)
	p.end()
	if out.Len() > 0 {
		t.Errorf("too early: %q", out.String())
	}
	p.begun = time.Now().Add(-time.Minute)
	p.amount(1<<20, 2<<20)
	p.amount(2<<20, 2<<20) // too soon after the first
	if text := out.String(); !strings.Contains(text, `testing\x1b: 50 % of 2 MiB, `) || strings.Contains(text, "100 %") {
		t.Errorf("got %q", text)
	}
	p.end()
	p.end()
	if text := out.String(); strings.Count(text, "\r\x1b[K") != 2 || !strings.HasSuffix(text, "\r\x1b[K") {
		t.Errorf("got %q", text)
	}
	out.Reset()
	p = &progress{w: &out, what: "looking", begun: time.Now().Add(-3 * time.Second)}
	p.found(7, "things")
	if text := out.String(); !strings.Contains(text, "looking: 7 things after 3 s") {
		t.Errorf("got %q", text)
	}
	p = &progress{w: &out, what: "nothing", begun: time.Now().Add(-3 * time.Second)}
	p.amount(0, 0)
	if text := out.String(); !strings.Contains(text, "nothing: 100 % of 0 MiB") {
		t.Errorf("got %q", text)
	}
}

func TestTablesFlag(t *testing.T) {
	for _, s := range []string{"x86-64", "x86-64:5", "arm64", "arm64:39", "arm64:52:4K", "arm64:47:16K", "arm64:42:64K", "riscv64", "riscv64:57"} {
		var f tablesFlag
		if err := f.Set(s); err != nil || !f.set || f.String() != s {
			t.Errorf("%s: %v", s, err)
		}
	}
	for _, s := range []string{"", "x86", "x86-64:3", "x86-64:4:4K", "arm64:48:8K", "arm64:48:", "arm64:99", "arm64:x", "riscv64:40", "riscv64:48:4K", "x86-64:-1", "arm64:48:4K:1"} {
		var f tablesFlag
		if err := f.Set(s); err == nil || f.set {
			t.Errorf("%q is taken for %+v", s, f)
		}
	}
}
