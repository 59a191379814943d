// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"os"
	"strconv"
	"testing"

	"github.com/remora-go/remora/internal/specimen"
)

func TestMain(m *testing.M) {
	specimen.Main(stuckJob, specimen.Job{Name: "read", Run: readJob})
	os.Exit(m.Run())
}

// lacks skips, or fails where the environment claims to have everything.
func lacks(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("REMORA_REQUIRE") != "" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		lacks(t, "needs root")
	}
}

// startSpecimen starts a process with known memory, which ends with the test.
func startSpecimen(t testing.TB, o *specimen.Options) *specimen.Specimen {
	t.Helper()
	s, err := specimen.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// layOut maps pieces side by side. It skips where the system does not offer one.
func layOut(t testing.TB, s *specimen.Specimen, pieces ...specimen.Piece) []area {
	t.Helper()
	ranges, err := s.Layout(pieces...)
	if errors.Is(err, errors.ErrUnsupported) {
		lacks(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
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
