// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestParseRegisters(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"none", "", ""},
		{"x86", "\r\nCPU#0\r\nRAX=000000000000000b RBX=ffffffff8d01aa40\r\nRIP=ffffffff8c2d9b0b RFL=00000246 [---Z-P-] CPL=0 II=0\r\n" +
			"ES =0000 0000000000000000 00000000 00000000\r\nGS =0000 ffff8b16cf600000 00000000 00000000\r\nGDT=     fffffe0000001000 0000007f\r\n" +
			"CR0=80050033 CR2=00000000004a3c40 CR3=000000000106c000 CR4=000006f0\r\nEFER=0000000000000d01\r\n\r\nCPU#1\r\nCR3=0000000000000001\r\n",
			"cr0:80050033 cr2:4a3c40 cr3:106c000 cr4:6f0 efer:d01 es_base:0 gs_base:ffff8b16cf600000 rax:b rbx:ffffffff8d01aa40 rfl:246 rip:ffffffff8c2d9b0b; cr3:1"},
		{"arm64", "CPU#0\n PC=ffff800008f5a2a4 X00=00000000000000e0 X29=ffff800009b33e40\n SP=ffff800009b33e40 PSTATE=600003c5\n",
			"pc:ffff800008f5a2a4 pstate:600003c5 sp:ffff800009b33e40 x0:e0 x29:ffff800009b33e40"},
		{"riscv64", "CPU#0\n V      =   0\n pc       ffffffff80a0b1c2\n satp     a000000000081234\n x0/zero  0000000000000000 x2/sp    ffffffff81c03e70\n",
			"pc:ffffffff80a0b1c2 satp:a000000000081234 sp:ffffffff81c03e70 zero:0"},
	} {
		var all []string
		for _, regs := range parseRegisters(c.text) {
			var one []string
			for _, name := range slices.Sorted(maps.Keys(regs)) {
				one = append(one, fmt.Sprintf("%s:%x", name, regs[name]))
			}
			all = append(all, strings.Join(one, " "))
		}
		if got := strings.Join(all, "; "); got != c.want {
			t.Errorf("%s:\n%s, want\n%s", c.name, got, c.want)
		}
	}
}

func TestParseBytes(t *testing.T) {
	b := make([]byte, 3)
	if err := parseBytes("0000000000000010: 0x01 0xff\r\n0000000000000018: 0x7f\r\n", b); err != nil || string(b) != "\x01\xff\x7f" {
		t.Errorf("%x, %v", b, err)
	}
	for _, bad := range []string{"", "10: 0x01", "10: 0x01 0x02 0x03 0x04", "10: Cannot access memory", "10: 0xzz 0x01 0x02", "10: 0x1"} {
		if err := parseBytes(bad, b); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// FuzzMonitor reads what the monitor for people may print.
func FuzzMonitor(f *testing.F) {
	f.Add("CPU#0\nRAX=000000000000000b\nGS =0000 ffff8b16cf600000\n x2/sp  ffffffff81c03e70\n")
	f.Add("10: 0x01 0xff 0x02\n")
	f.Fuzz(func(t *testing.T, text string) {
		parseRegisters(text)
		_ = parseBytes(text, make([]byte, 3))
	})
}
