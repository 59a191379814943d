// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"strconv"
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/vmlab"
)

// lacks is what a kernel has not: MADV_GUARD_INSTALL came with Linux 6.13.
func lacks(m vmlab.Machine) []string {
	if strings.HasSuffix(m.Kernel, "-6.1") || strings.HasSuffix(m.Kernel, "-6.12") {
		return []string{"no guard: "}
	}
	return nil
}

// TestInside has one guest of each kernel run everything that goes with one command
// line. ptrace_scope and lockdown only ever go up.
func TestInside(t *testing.T) {
	for _, m := range vmlab.Guests() {
		m.Options = options
		t.Run(m.String(), func(t *testing.T) {
			g := start(t, m, "compat/processvm", "proc", "internal/access", "internal/specimen")
			g.set("/proc/sys/vm/nr_hugepages", "12")
			t.Run("specimen", func(t *testing.T) {
				g.at(t).test(nil, "specimen", "^(TestPagedOut|TestHugeTLB|TestKindsAreWhatTheySay)$",
					map[bool]string{true: "/guard"}[lacks(m) != nil])
			})
			t.Run("differential", func(t *testing.T) { differential(g.at(t), m) })
			for scope := range 3 {
				t.Run("ptrace_scope "+strconv.Itoa(scope), func(t *testing.T) { yama(g.at(t), m, scope) })
			}
			levels := []string{"none", "integrity", "confidentiality"}
			if !all() {
				levels = levels[2:]
			}
			for _, level := range levels {
				t.Run("lockdown "+level, func(t *testing.T) { lockdown(g.at(t), level) })
			}
			t.Run("ptrace_scope 3", func(t *testing.T) { yama(g.at(t), m, 3) }) // nothing can be looked at after it
		})
	}
}

// differential has both engines held against the kernel.
func differential(g guest, m vmlab.Machine) {
	calls := "1000"
	if all() {
		calls = "12000" // and then all must have come upon that there is
	}
	g.test([]string{"REMORA_VECTORS=" + calls}, "proc", "^TestDifferential$", lacks(m)...)
	if strings.HasPrefix(m.Kernel, "amd64") { // it knows that one's registers
		g.test([]string{"REMORA_CALLS=" + calls}, "processvm", "^TestDifferential$", lacks(m)...)
	}
}
