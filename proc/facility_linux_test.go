// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"testing"
)

func TestFacilitiesAgreeWithWhatAProcessUses(t *testing.T) {
	byName := map[string]Facility{}
	for _, f := range Facilities() {
		if _, twice := byName[f.Name]; twice || f.Name == "" || f.Use == "" {
			t.Errorf("%+v", f)
		}
		if f.Works == (f.Why != "") || f.Works && f.Remedy != "" || !f.Works && f.Remedy == "" {
			t.Errorf("%s: works: %v, why: %q, remedy: %q", f.Name, f.Works, f.Why, f.Remedy)
		}
		byName[f.Name] = f
	}
	p, err := Open(os.Getpid(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for name, want := range map[string]bool{
		FacilityVM:      !vmBlocked(),
		"/proc/PID/mem": p.as.mem >= 0,
		"forced writes": p.forcing(),
		"PROCMAP_QUERY": p.as.query,
		"PAGEMAP_SCAN":  p.as.scan,
	} {
		if f, ok := byName[name]; !ok || f.Works != want {
			t.Errorf("%s: %+v, a process uses it: %v", name, f, want)
		}
	}
}
