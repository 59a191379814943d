// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"strings"
	"testing"

	"github.com/remora-go/remora/internal/access"
	"github.com/remora-go/remora/internal/sys/linux"
)

func TestReason(t *testing.T) {
	rule := access.Step{Rule: access.RuleDumpable, Passed: access.No, Text: "it is not dumpable", Remedy: "be root"}
	passed := access.Step{Rule: access.RuleIDs, Passed: access.Yes, Text: "the ids are equal"}
	for _, row := range []struct {
		steps        []access.Step
		text, remedy string
	}{
		{[]access.Step{passed, rule}, "it is not dumpable", "be root"},
		{[]access.Step{passed}, "operation not permitted, though every rule that can be seen allows it", "sandbox"},
		{nil, "operation not permitted, though every rule", "sandbox"},
	} {
		text, remedy := reason(access.Decision{Steps: row.steps}, linux.EPERM)
		if !strings.HasPrefix(text, row.text) || !strings.Contains(remedy, row.remedy) {
			t.Errorf("%v: %q, %q", row.steps, text, remedy)
		}
	}
}
