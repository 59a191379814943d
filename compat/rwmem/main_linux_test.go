// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
)

func TestMain(m *testing.M) {
	specimen.Main(specimen.Job{Name: "write-shared", Run: writeSharedJob})
	os.Exit(m.Run())
}

// writeSharedJob writes a byte at an address of a process, and prints the error.
func writeSharedJob(out io.Writer, args []string) error {
	pid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	a, err := strconv.ParseUint(args[1], 0, 64)
	if err != nil {
		return err
	}
	p, err := Open(pid, &Options{Write: true})
	if err != nil {
		return err
	}
	if err := p.Hold(); err != nil {
		return err
	}
	n, err := p.WriteMem(context.Background(), nil, []byte{0xcc}, remora.Addr(a))
	p.Release()
	fmt.Fprintf(out, "%d, %v", n, err)
	return p.Close()
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

// child starts a process with known memory, which ends with the test.
func child(t testing.TB, o *specimen.Options) *specimen.Specimen {
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
func layOut(t testing.TB, s *specimen.Specimen, pieces ...specimen.Piece) []remora.Range {
	t.Helper()
	ranges, err := s.Layout(pieces...)
	if errors.Is(err, errors.ErrUnsupported) {
		lacks(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	return ranges
}

// live opens a process for writing, and holds it until the end of the test.
func live(t testing.TB, pid int) *Proc {
	t.Helper()
	p, err := Open(pid, &Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	hold(t, p)
	return p
}

// peek is what the process itself finds at a.
func peek(t testing.TB, s *specimen.Specimen, a remora.Addr, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if err := s.Peek(b, a); err != nil {
		t.Fatal(err)
	}
	return b
}
