// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"strconv"
	"testing"

	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/specimen/specimentest"
)

func TestMain(m *testing.M) {
	specimen.Main(stuckJob, specimen.Job{Name: "read", Run: readJob})
	os.Exit(m.Run())
}

// layOut maps pieces side by side.
func layOut(t testing.TB, s *specimen.Specimen, pieces ...specimen.Piece) []area {
	t.Helper()
	ranges := specimentest.Layout(t, s, pieces...)
	areas := make([]area, len(pieces))
	for i, r := range ranges {
		areas[i] = area{r, pieces[i].Kind}
	}
	return areas
}

func openProcess(t testing.TB, pid int, o *Options) *Process {
	t.Helper()
	p, err := Open(pid, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// doors are all doors, for tests that must come out the same through each.
func doors() []Door { return []Door{DoorVM, DoorMem, DoorPtrace} }

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }
