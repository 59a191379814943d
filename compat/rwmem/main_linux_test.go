// SPDX-License-Identifier: Apache-2.0

package rwmem

import (
	"context"
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
