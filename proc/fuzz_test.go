// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
)

// checkRegion holds what is true of every region that is given out.
func checkRegion(t *testing.T, r remora.Region) {
	t.Helper()
	if r.Empty() || r.Last() < r.Start {
		t.Fatalf("region %v is empty or wraps", r.Range)
	}
	again, err := all(ParseMaps(strings.NewReader(line(r))))
	if err != nil || len(again) != 1 {
		t.Fatalf("%q gives %d regions and %v", line(r), len(again), err)
	}
	if diff := cmp.Diff(r, again[0]); diff != "" {
		t.Fatalf("after printing: -want +got:\n%s", diff)
	}
}

func FuzzMaps(f *testing.F) {
	for _, text := range texts(f, "maps.txtar", ".maps") {
		f.Add(text, uint64(0x10800))
		f.Add(text[:len(text)-30], ^uint64(0))
	}
	f.Add("", uint64(0))
	f.Add("2000-3000 r--p 0 0:0 0\n1000-4000 r--p 0 0:0 0 b (deleted)\n", uint64(0x2fff))
	f.Add("0-ffffffffffffffff ---s 0 0:0 0"+strings.Repeat(" ", 200)+"\\012", uint64(1))
	f.Fuzz(func(t *testing.T, text string, at uint64) {
		a := remora.Addr(at)
		list, err := all(ParseMaps(strings.NewReader(text)))
		for _, r := range list {
			checkRegion(t, r)
		}
		got, found, ferr := FindRegion(strings.NewReader(text), a, make([]byte, findBuf))

		var hole remora.Addr
		for _, r := range list {
			if r.Last() < a {
				hole = r.Last() + 1
				continue
			}
			r.Name, r.Deleted = "", false
			if found != r.Contains(a) || ferr != nil {
				t.Fatalf("%v: found %v, %v; the first region that ends after it is %v", a, found, ferr, r.Range)
			}
			if !found {
				r = remora.Region{Range: remora.Between(hole, r.Start)}
			}
			if diff := cmp.Diff(r, got); diff != "" {
				t.Fatalf("%v: -want +got:\n%s", a, diff)
			}
			return
		}
		if err != nil {
			if len(text) < maxLine && (ferr == nil || ferr.Error() != err.Error()) {
				t.Fatalf("FindRegion says %v, ParseMaps %v", ferr, err)
			}
			return
		}
		if found || ferr != nil || got.Start != hole {
			t.Fatalf("%v: found %v, %v, %v; want the hole from %v on", a, found, got, ferr, hole)
		}
	})
}

func FuzzSmaps(f *testing.F) {
	for _, text := range texts(f, "smaps.txtar", ".smaps") {
		f.Add(text)
		f.Add(text[:len(text)/2])
	}
	for _, text := range texts(f, "maps.txtar", ".maps") {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var heads []string
		for _, l := range strings.SplitAfter(text, "\n") {
			if !isField([]byte(l)) {
				heads = append(heads, l)
			}
		}
		list, err := all(ParseSmaps(strings.NewReader(text)))
		for _, u := range list {
			checkRegion(t, u.Region)
			if u.VmFlags >= vmFlagsEnd || u.Rss%1024 != 0 {
				t.Fatalf("impossible usage %+v", u)
			}
		}
		if err != nil {
			return
		}
		// Without its fields the text is a maps text of the same regions.
		regions, err := all(ParseMaps(strings.NewReader(strings.Join(heads, ""))))
		if err != nil || len(regions) != len(list) {
			t.Fatalf("%d regions of maps and %v, %d of smaps", len(regions), err, len(list))
		}
		for i := range list {
			if diff := cmp.Diff(regions[i], list[i].Region); diff != "" {
				t.Fatalf("region %d: -maps +smaps:\n%s", i, diff)
			}
		}
	})
}
