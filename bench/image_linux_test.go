// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/bench/internal/play"
	"github.com/remora-go/remora/vmcore"
)

const psText = `      PID    PPID  CPU              TASK  ST  %MEM       VSZ       RSS  COMM
>       0       0    0  ffffffff9ac1aa40  R    0.0         0         0  [swapper/0]
        2       0    1  ffff8bf8c1218000  S    0.0         0         0  [kthreadd]
>      90       1    1  ffff8bf8c2820000  R    0.8   1349304     19716  a b
`

// TestImageText has texts of all programs give one digest, and another one where they differ.
func TestImageText(t *testing.T) {
	type form func([]byte) (string, error)
	for _, c := range []struct {
		name   string
		texts  []string
		forms  []form
		differ string
	}{
		{"byte", []string{"ffffffff9a31fa00  4c            |L|\nffffffff9a31fa01\n", "ffffffff9a31fa00:4c\n", "bt: failed\n\nffffffff9a31fa00:  4c          L\n"}, []form{byteOf, byteOf, byteOf}, "ffffffff9a31fa00:4d\n"},
		{"symbol", []string{"ffffffff99549950 T vfs_read\n", "ffffffff99549950\n"}, []form{symbolOf, symbolOf}, "ffffffff99549951\n"},
		{"processes", []string{psText, "90 1 a b\n2 0 kthreadd\n"}, []form{processesOf, linesOf}, strings.Replace(psText, "      90 ", "      91 ", 1)},
		{"tasks", []string{psText, "ffffffff9ac1aa40\n  pid = 0\nffff8bf8c1218000\n  pid = 2\nffff8bf8c2820000\n  pid = 90\n"}, []form{tasksOf, crashTasks}, strings.Replace(psText, "c2820000", "c2820001", 1)},
	} {
		first, err := c.forms[0]([]byte(c.texts[0]))
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		for i, text := range c.texts {
			if got, err := c.forms[i]([]byte(text)); err != nil || got != first {
				t.Errorf("%s: %q gives %s, %v, want %s", c.name, text, got, err, first)
			}
		}
		if got, err := c.forms[0]([]byte(c.differ)); err != nil || got == first {
			t.Errorf("%s: %q gives %s, %v", c.name, c.differ, got, err)
		}
		if got, err := c.forms[0](nil); err == nil {
			t.Errorf("%s: nothing gives %s", c.name, got)
		}
	}
	some := symbolsOf(map[string]bool{"a": true})
	ours, err1 := some([]byte("00ff T a\n0001 t b\n0002 t a mod\n"))
	theirs, err2 := some([]byte("ff a\n3 c\n"))
	if err1 != nil || err2 != nil || ours != theirs {
		t.Errorf("%s, %v and %s, %v", ours, err1, theirs, err2)
	}
}

// TestContent takes pieces out of two runs.
func TestContent(t *testing.T) {
	run := func(start, size uint64, off int64) vmcore.Run {
		return vmcore.Run{Range: remora.Range{Start: remora.Addr(start), Size: size}, Offset: off}
	}
	c := &content{runs: []vmcore.Run{run(0x1000, 16<<20, 0x100), run(1<<32, 16<<20, 20<<20)}, before: []uint64{0, 16 << 20}, total: 32 << 20}
	for _, x := range []struct {
		off, size uint64
		want      remora.Addr
		ok        bool
	}{{0, 8, 0x1000, true}, {16<<20 - 8, 8, 0x1000 + 16<<20 - 8, true}, {16<<20 - 4, 8, 0, false}, {16 << 20, 8, 1 << 32, true}} {
		if r, ok := c.cut(x.off, x.size); ok != x.ok || ok && (r.Start != x.want || r.Size != x.size) {
			t.Errorf("%d bytes at %#x: %v, %v", x.size, x.off, r, ok)
		}
	}
	if all := c.spread(2); len(all) != 2 || all[0].Start != 0x1000 || all[1].Start != 1<<32 {
		t.Errorf("stretches %v", all)
	}
	for _, r := range c.scatter(1000) {
		if first, second := c.runs[0].Contains(r.Start), c.runs[1].Contains(r.Start); r.Size != wordSize || first == second {
			t.Fatalf("a word at %v", r)
		}
	}
	if got := c.offset(1<<32 + 8); got != 20<<20+8 {
		t.Errorf("it lies at %#x", got)
	}
}

// TestImagePlayer reads an image of zeros.
func TestImagePlayer(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "image")
	if err := writeZeros(path, 4<<20); err != nil {
		t.Fatal(err)
	}
	m, err := vmcore.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	whole, err := saved(m)
	if err != nil || whole.total != 4<<20 {
		t.Fatalf("%+v, %v", whole, err)
	}
	l := &lister{dir: dir, whole: whole}
	ranges := l.list("ranges", []remora.Range{{Size: 2 << 20}}, request)
	words := l.list("words", whole.scatter(100), wordSize)
	if at, size, err := play.List(ranges); l.err != nil || err != nil || len(at) != 2 || at[1] != request || size != request {
		t.Fatalf("%v of %d bytes, %v, %v", at, size, err, l.err)
	}
	zeros := binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(make([]byte, request)))
	for _, c := range []struct{ work, want string }{
		{"open " + path + " 0x1000", play.Sum(make([]byte, 8))},
		{"words " + path + " " + words + " 1 4", play.Sum(make([]byte, 800))},
		{"words " + path + " " + words + " 64 4", play.Sum(make([]byte, 800))},
		{"seq " + path + " " + ranges + " 1", play.Sum(zeros, zeros)},
		{"seq " + path + " " + ranges + " 2", play.Sum(zeros, zeros)},
	} {
		var out bytes.Buffer
		if err := play.Serve(strings.NewReader("sum "+c.work+"\n"), &out, play.Image()); err != nil || out.String() != "ok "+c.want+"\n" {
			t.Errorf("%s: %q, %v, want %s", c.work, out.String(), err, c.want)
		}
	}
	if err := play.Serve(strings.NewReader("run 3 ps "+path+"\n"), new(bytes.Buffer), play.Image()); err != nil {
		t.Error(err)
	}
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("8\n10 10\n20\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if at, _, err := play.List(broken); err == nil {
		t.Errorf("a line of one number ends a list: %v", at)
	}
	l.list("none", nil, 8)
	if l.err == nil {
		t.Error("a list of nothing is fine")
	}
}

// TestGoals holds rows of an image only against those who read the same one.
func TestGoals(t *testing.T) {
	for _, m := range []*image{{"a", "x", "x"}, {"b", "y", "x"}} {
		if got, want := len(m.goal(1, byDrgn)), map[bool]int{true: 1, false: 0}[m.path == m.peers]; got != want {
			t.Errorf("%s: %d goals", fmt.Sprint(*m), got)
		}
	}
}
