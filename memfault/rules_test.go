// SPDX-License-Identifier: Apache-2.0

package memfault_test

import (
	"strings"
	"testing"

	"github.com/remora-go/remora/memfault"
	"github.com/remora-go/remora/memtest"
)

func TestBadRulesSayWhatIsWanted(t *testing.T) {
	for _, test := range []struct{ rules, want string }{
		{"read", `line 1: "read": want addresses, as 0x1000-0x1fff (the last included), 0x1000+16, 0x1000 or everywhere, found the end of the rule`},
		{"read here io", `line 1: "read here io": want addresses, as 0x1000-0x1fff (the last included), 0x1000+16, 0x1000 or everywhere, found "here"`},
		{"read 0x1000-0x1g io", `found "0x1000-0x1g"`},
		{"read 0x2000-0x1fff io", `want a range that does not end before it begins, found "0x2000-0x1fff"`},
		{"read 0x2000+0 io", `want a size of 1 or more, found "0x2000+0"`},
		{"read 0xffffffffffffffff+2 io", `want a range that does not end before it begins, found "0xffffffffffffffff+2"`},
		{"read 0x10000000000000000 io", `found "0x10000000000000000"`},
		{"write 0x1000", `line 1: "write 0x1000": want a cause (beyond-eof, busy, corrupt, device, fault, gone, guard, hole, io, no-table, not-present, not-saved, poisoned, protected, truncated, unmapped), found the end of the rule`},
		{"any 0x1000 eio", `unmapped), found "eio"`},
		{"any 0x1000 io twice", `want the end of the rule, found "twice"`},
		{"every", `want a number from 1 up, as 7th, found the end of the rule`},
		{"every 0th short", `want a number from 1 up, as 7th, found "0th"`},
		{"every -3 short", `found "-3"`},
		{"every 7th", `want a cause (`},
		{"every 7th read", `found the end of the rule`},
		{"every 7th short eio", `found "eio"`},
		{"every 7th short io io", `want the end of the rule, found "io"`},
		{"delay", `want a duration, as 5ms, found the end of the rule`},
		{"delay 5", `want a duration, as 5ms, found "5"`},
		{"delay -5ms", `found "-5ms"`},
		{"gone", `want "after" and a number of calls, found the end of the rule`},
		{"gone after", `want a number of calls, found the end of the rule`},
		{"gone after noon", `want a number of calls, found "noon"`},
		{"fail 0x1000", `want "read", "write", "any", "every", "delay" or "gone", found "fail"`},
		{"read 0x1000 io\n# a comment; not a rule\n\nwrite 0x1000 io; READ 0x1000 io", `line 4: "READ 0x1000 io": want "read", `},
	} {
		space, err := memfault.New(memtest.NewSparse(nil), test.rules)
		switch {
		case err == nil:
			t.Errorf("%q is taken for good rules: %+v", test.rules, space.Info())
		case !strings.HasPrefix(err.Error(), "memfault: line ") || !strings.Contains(err.Error(), test.want):
			t.Errorf("%q gives\n%v, which does not hold\n%s", test.rules, err, test.want)
		}
	}
}

func FuzzRules(f *testing.F) {
	for _, rules := range []string{
		"read 0x1000-0x1fff unmapped; write 0x1000+16 protected # why",
		"every 7th short\nevery 3rd write short busy\nevery 2 io",
		"delay 5ms\ngone after 100", "any everywhere io", "any 0xffffffffffffffff+1 io",
	} {
		f.Add(rules)
	}
	f.Fuzz(func(t *testing.T, rules string) {
		space, err := memfault.New(memtest.NewSparse(nil), rules)
		if (space == nil) == (err == nil) {
			t.Fatalf("%v, %v", space, err)
		}
		if err == nil && space.Info().Granule == 0 {
			t.Fatal("Granule 0")
		}
	})
}
