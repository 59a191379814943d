// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/testimage"
)

func TestMain(m *testing.M) {
	specimen.Main()
	os.Exit(m.Run())
}

func TestQuantile(t *testing.T) {
	values := []float64{4, 1, 3, 2}
	for q, want := range map[float64]float64{0: 1, 0.5: 2.5, 1: 4, 0.25: 1.75} {
		if got := quantile(values, q); got != want {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
}

// The whole way for a row, briefly: what it measures is not looked at.
func TestRowsRun(t *testing.T) {
	p, err := newProcess()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := run(&out, p, 10, time.Millisecond, "8 bytes"); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count("\n"+out.String(), "\n8 bytes"); n != 7 {
		t.Errorf("%d rows in\n%s", n, out.String())
	}
}

// The same for a row whose peer is timed from here.
func TestPeerRowsRun(t *testing.T) {
	var out bytes.Buffer
	if err := run(&out, whole{}, 10, time.Millisecond, ""); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "at most 2.00"); n != 1 {
		t.Errorf("%d rows in\n%s", n, out.String())
	}
}

// whole is a part of one row: a process by itself.
type whole struct{}

func (whole) twin() (*twin, error) { return (&twin{cmd: exec.Command("cat")}).start() }
func (whole) close() error         { return nil }
func (whole) rows() ([]row, error) {
	do := command("", "true")
	return []row{{name: "true", limit: "at most 2.00", here: do, peer: do, wide: true}}, nil
}

// The same for the rows about images, on small ones.
func TestImageRowsRun(t *testing.T) {
	dir := t.TempDir()
	elf := func() []byte { return (&testimage.VMCore{Mem: memory()}).Bytes() }
	zlib := func() []byte {
		k := testimage.NewKdump(memory())
		k.Compress = testimage.Zlib
		return k.Bytes()
	}
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	b := &images{random: rand.New(rand.NewPCG(1, 2))}
	b.dir = t.TempDir()
	b.elf, b.zlib = write("elf", elf()), write("zlib", zlib())
	b.flat = write("flat", testimage.Flatten(zlib(), testimage.FlatOptions{}))
	var out bytes.Buffer
	if err := run(&out, b, 10, time.Millisecond, "1 MiB each"); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "1 MiB each"); n != 5 {
		t.Errorf("%d rows in\n%s", n, out.String())
	}
}

// memory is 32 MiB in one piece, every page another one.
func memory() *testimage.Physical {
	p := &testimage.Physical{Pages: map[uint64]testimage.Page{}}
	for pfn := range uint64(8192) {
		page := make([]byte, 4096)
		binary.LittleEndian.PutUint64(page[pfn%4000:], pfn)
		p.Pages[pfn] = testimage.Page{Data: page}
	}
	return p
}
