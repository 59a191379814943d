// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

// stubs is what the rows about gdb stubs share: a machine of QEMU's that runs nothing. Its
// stub serves one client at a time, so each side holds it only in its turn.
type stubs struct {
	dir  string
	qemu *exec.Cmd
}

func newStubs() (_ part, err error) {
	b := &stubs{}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.dir, err = os.MkdirTemp("", "remora-bench-"); err != nil {
		return nil, err
	}
	text, err := sources.ReadFile("testdata/stub.py")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(b.file("stub.py"), text, 0o600); err != nil {
		return nil, err
	}
	b.qemu = exec.Command("qemu-system-x86_64", "-nodefaults", "-display", "none", "-accel", "tcg", "-M", "pc", "-m", "64", "-S",
		"-chardev", "socket,id=stub,path="+b.file("stub")+",server=on,wait=off", "-gdb", "chardev:stub")
	b.qemu.Stderr = os.Stderr
	if err := b.qemu.Start(); err != nil {
		b.qemu = nil
		return nil, err
	}
	for range 100 {
		if _, err = os.Stat(b.file("stub")); err == nil {
			return b, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return nil, err
}

func (b *stubs) file(name string) string { return filepath.Join(b.dir, name) }

// twin is gdb.
func (b *stubs) twin() (*twin, error) {
	return (&twin{cmd: exec.Command("gdb", "-q", "-batch", "-nx", "-ex", "python exec(open('"+b.file("stub.py")+"').read())")}).start()
}

func (b *stubs) close() error {
	if b.qemu != nil {
		b.qemu.Process.Kill()
		b.qemu.Wait()
	}
	return os.RemoveAll(b.dir)
}

func (b *stubs) rows() ([]row, error) {
	const first = 16 << 20
	buf := make([]byte, 8<<20)
	ram := remora.Range{Start: 1 << 20, Size: 63 << 20}
	read := func(n int) (err error) {
		t, err := target.Open(context.Background(), "gdb:"+b.file("stub")+"@phys", &target.Options{Segments: []remora.Range{ram}})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.Close()) }()
		for range n {
			if _, err := t.Memory().ReadAt(context.Background(), buf, first); err != nil {
				return err
			}
		}
		return nil
	}
	return []row{{
		name: "8 MiB of a guest, by gdb's dump", limit: "at most 0.33", bytes: len(buf), wide: true, here: read,
		there: func(_ *twin, n int) string {
			return fmt.Sprintf("read %d %s %s %#x %#x", n, b.file("stub"), b.file("dump"), first, first+len(buf))
		},
	}}, nil
}
