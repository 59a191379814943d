// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	passing = `
{"Action":"run","Package":"github.com/remora-go/remora/proc","Test":"TestA"}
{"Action":"output","Package":"github.com/remora-go/remora/proc","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"github.com/remora-go/remora/proc","Test":"TestA","Elapsed":0.1}
{"Action":"pass","Package":"github.com/remora-go/remora/proc","Elapsed":0.2}
{"Action":"skip","Package":"github.com/remora-go/remora/cmd/remora","Elapsed":0}
`
	skipping = passing + `
{"Action":"run","Package":"github.com/remora-go/remora","Test":"TestS"}
{"Action":"output","Package":"github.com/remora-go/remora","Test":"TestS","Output":"=== RUN   TestS\n"}
{"Action":"output","Package":"github.com/remora-go/remora","Test":"TestS","Output":"    s_test.go:1: no such call\n"}
{"Action":"skip","Package":"github.com/remora-go/remora","Test":"TestS"}
{"Action":"pass","Package":"github.com/remora-go/remora","Elapsed":0.2}
`
	failing = passing + `
{"Action":"output","Package":"github.com/remora-go/remora","Test":"TestF","Output":"f_test.go:3: wrong\n"}
{"Action":"fail","Package":"github.com/remora-go/remora","Test":"TestF"}
{"Action":"fail","Package":"github.com/remora-go/remora","Elapsed":0.2}
`
	unbuilt = passing + `
{"ImportPath":"github.com/remora-go/remora","Action":"build-output","Output":"x.go:1: undefined: y\n"}
{"Action":"output","Package":"github.com/remora-go/remora","Output":"FAIL [build failed]\n"}
{"Action":"fail","Package":"github.com/remora-go/remora","Elapsed":0}
`
)

func TestSummary(t *testing.T) {
	for _, c := range []struct {
		name, in      string
		loose, strict bool // ok
		want          counts
		shown         []string
		hidden        string
	}{
		{name: "passing", in: passing, loose: true, strict: true,
			want: counts{Packages: 1, Passed: 1}, shown: []string{"pass  proc"}, hidden: "quiet"},
		{name: "skipping", in: skipping, loose: true,
			want: counts{Packages: 2, Passed: 1, Skipped: []string{"remora TestS: s_test.go:1: no such call"}}},
		{name: "failing", in: failing,
			want: counts{Packages: 2, Passed: 1, Failed: 1}, shown: []string{"f_test.go:3: wrong", "fail  remora"}},
		{name: "unbuilt", in: unbuilt,
			want: counts{Packages: 2, Passed: 1, Broken: []string{"remora"}}, shown: []string{"undefined: y", "build failed"}},
		{name: "nothing ran", in: "go: no such package\n", shown: []string{"no such package"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			got, err := summarize(strings.NewReader(c.in), &out)
			if err != nil {
				t.Fatal(err)
			}
			if got.ok(false) != c.loose || got.ok(true) != c.strict {
				t.Errorf("ok: %v, strict %v; want %v, %v", got.ok(false), got.ok(true), c.loose, c.strict)
			}
			got.outputs, got.passedIn, got.failedIn = nil, nil, nil
			if diff := cmp.Diff(&c.want, got, cmp.AllowUnexported(counts{})); diff != "" {
				t.Errorf("counts differ (-want +got):\n%s", diff)
			}
			for _, s := range c.shown {
				if !strings.Contains(out.String(), s) {
					t.Errorf("%q is not in the output:\n%s", s, &out)
				}
			}
			if c.hidden != "" && strings.Contains(out.String(), c.hidden) {
				t.Errorf("%q is in the output:\n%s", c.hidden, &out)
			}
		})
	}
}

func TestClosing(t *testing.T) {
	tally := filepath.Join(t.TempDir(), "tally")
	for _, in := range []string{passing, skipping} {
		c, err := summarize(strings.NewReader(in), new(bytes.Buffer))
		if err != nil {
			t.Fatal(err)
		}
		c.Phase = "a run"
		if err := c.appendTo(tally); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(tally)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out bytes.Buffer
	ok, err := closing(&out, f, true)
	if err != nil || ok {
		t.Errorf("ok %v, error %v; want false for the skip", ok, err)
	}
	for _, s := range []string{"a run", "skipped: remora TestS", "a skipped test is a failed one",
		"all                                   3        2        0        1"} {
		if !strings.Contains(out.String(), s) {
			t.Errorf("%q is not in the output:\n%s", s, &out)
		}
	}
}
