// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"strings"
	"testing"

	"github.com/remora-go/remora/bench/internal/measure"
)

// TestProcessLists gives the same digest of what Remora and drgn print of the same processes,
// in whatever order, and another one where they differ.
func TestProcessLists(t *testing.T) {
	const ours = `      PID    PPID  CPU              TASK  ST  %MEM       VSZ       RSS  COMM
>       0       0    0  ffffffff87a1aa40  R    0.0         0         0  [swapper/0]
        1       0    1  ffff8a85c120a0c0  S    0.9   1293512      2084  init
        7       2    0  ffff8a85c1238000  I    0.0         0         0  [kworker/0:0]
`
	want, err := psLines([]byte(ours))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		text string
		same bool
	}{
		{"7 2 0 ffff8a85c1238000 I 0 kworker/0:0\n1 0 1 ffff8a85c120a0c0 S 1293512 init\n", true},
		{"7 2 0 ffff8a85c1238000 I 0 kworker/0:0\n1 0 1 ffff8a85c120a0c0 S 1293511 init\n", false},
		{"1 0 1 ffff8a85c120a0c0 S 1293512 init\n", false},
	} {
		if got, err := drgnLines([]byte(c.text)); err != nil || (got == want) != c.same {
			t.Errorf("%q has the digest %s, %v, and Remora's list %s", c.text, got, err, want)
		}
	}
	if _, err := psLines([]byte("1 0 1\n")); err == nil {
		t.Error("a line without a name was taken")
	}
	if !running.MatchString(">       9       0    0  ff  R") || running.MatchString(ours) {
		t.Error("what runs is not told from the idle task")
	}
}

// TestTakeResults reads what a guest prints.
func TestTakeResults(t *testing.T) {
	var b bytes.Buffer
	for _, name := range []string{"one", "two"} {
		if err := json.NewEncoder(&b).Encode(&measure.Result{Group: kcoreGroup, Name: name, Sides: []measure.SideResult{{Name: "Remora"}}}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := takeResults(&b)
	if err != nil || len(all) != 2 || all[1].Name != "two" || all[0].Side("Remora") == nil {
		t.Errorf("%v, %v", all, err)
	}
	if all, err := takeResults(strings.NewReader("{\"name\": \"one\"}\nKilled\n")); err == nil || len(all) != 1 {
		t.Errorf("what is cut off gives %v, %v", all, err)
	}
}

// kcoreHead lays out the headers of /proc/kcore with segments: offset, virtual and physical
// address, and size of each.
func kcoreHead(segments ...[4]uint64) []byte {
	b := make([]byte, 4096)
	copy(b, "\x7fELF")
	le := binary.LittleEndian
	le.PutUint16(b[56:], uint16(len(segments)))
	for i, s := range segments {
		p := b[64+56*i:]
		le.PutUint32(p, 1) // PT_LOAD
		le.PutUint64(p[8:], s[0])
		le.PutUint64(p[16:], s[1])
		le.PutUint64(p[24:], s[2])
		le.PutUint64(p[32:], s[3])
	}
	return b
}

// TestKernelText finds the kernel's image in the map of all memory.
func TestKernelText(t *testing.T) {
	image := [4]uint64{0x7fff81001000, 0xffffffff81000000, 0x1000000, 32 << 20}
	vmalloc := [4]uint64{0x1000, 0xffffc90000000000, 1<<64 - 1, 1 << 40}
	direct := [4]uint64{0x88880001000, 0xffff888000100000, 0x100000, 255 << 20}
	addr, off, err := kernelText(bytes.NewReader(kcoreHead(image, vmalloc, direct)))
	if err != nil || addr != 0x1100000 || off != 0x88880001000+0x1000000 {
		t.Errorf("%#x at %#x, %v", addr, off, err)
	}
	for name, head := range map[string][]byte{
		"no image": kcoreHead(vmalloc, direct), "no map": kcoreHead(image, vmalloc), "not ELF": make([]byte, 4096), "short": make([]byte, 100),
	} {
		if _, _, err := kernelText(bytes.NewReader(head)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
