// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"os"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/remora-go/remora/internal/testimage"
)

// coreAddr is where the memory of a script's core begins: a page that is saved, a page
// that is not, and one that is cut off when the file is.
const coreAddr = 0x601000

// writeCore writes the core of a process with pid 42.
func writeCore(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "core FILE [ARG...]")
	page := bytes.Repeat([]byte("0123456789abcdef"), 256)
	copy(page[0x40:], []byte{7, 0, 0, 0, 0, 0, 0, 0})
	c := &testimage.Core{PageAlign: true, Loads: []testimage.Load{
		{Addr: coreAddr, Data: page, Mem: 2 * 4096, Flags: elf.PF_R | elf.PF_W},
		{Addr: coreAddr + 0x10000, Data: []byte("text\x00 behind it"), Flags: elf.PF_R},
	}}
	c.Notes = []testimage.Note{
		c.PRStatus(42, 11, make([]uint64, 27)...),
		c.PRPSInfo(42, 1000, "sample", "sample --now"),
		c.Files(testimage.Mapping{Start: coreAddr, End: coreAddr + 0x2000, Name: "/opt/evil\x1b[2Jname"}),
	}
	if len(args) > 1 {
		addStack(c, args[1:], []string{"HOME=/", "EVIL=\x1b[2J"})
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), c.Bytes(), 0o600))
}

// addStack gives a core the stack of a process that was started with these strings.
func addStack(c *testimage.Core, argv, envp []string) {
	const text, random = coreAddr + 0x21000, coreAddr + 0x20f00
	var b []byte
	words := []any{testimage.Word(len(argv))}
	for _, list := range [][]string{argv, envp} {
		for _, s := range list {
			words = append(words, testimage.Word(text+len(b)))
			b = append(append(b, s...), 0)
		}
		words = append(words, testimage.Word(0))
	}
	words = append(words, testimage.Word(25), testimage.Word(random), testimage.Word(0), testimage.Word(0))
	table := c.Put(nil, words...)
	c.Notes = append(c.Notes, c.Auxv(25, random))
	c.Loads = append(c.Loads, testimage.Load{Addr: uint64(random - len(table)), Data: append(append(table, make([]byte, text-random)...), b...),
		Flags: elf.PF_R | elf.PF_W})
}

// objects wants JSON objects with a schema, and nothing for a terminal to act on.
func objects(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, "objects stdout|stderr")
	text := ts.ReadFile(args[0])
	if text == "" {
		ts.Fatalf("%s is empty", args[0])
	}
	for line := range strings.Lines(text) {
		var o struct{ Schema string }
		if err := json.Unmarshal([]byte(line), &o); err != nil || !strings.HasPrefix(o.Schema, "remora.") {
			ts.Fatalf("%q: %v", line, err)
		}
		if clean := strings.TrimSuffix(line, "\n"); harmless(clean) != clean {
			ts.Fatalf("%q holds what is not printable", line)
		}
	}
}
