// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// kernels is what the rows about kernels in images share. The peers are drgn, crash, and
// the start of a process that does nothing: of what no peer can do, a limit says how long
// it may take.
type kernels struct {
	dir    string
	remora string // the command, built
	python string // with drgn
	debug  string // the kernel with its debugging information

	elf, zlib string // images of one moment
	bare      string // one without VMCOREINFO
	raw       string // the memory alone of the first moment
	mute      string // a copy of that, in which the kernel has no VMCOREINFO
	segments  []remora.Range

	main, areas int          // witnesses
	anon        remora.Range // of the main one
	open        []io.Closer
}

// newKernels takes the images of the smallest machine.
func newKernels() (_ part, err error) {
	b := &kernels{}
	defer labDone(b, &err)
	if b.dir, err = os.MkdirTemp("", "remora-bench-"); err != nil {
		return nil, err
	}
	lab := vmlab.Open(labTest{}, vmlab.Machine{Kernel: vmlab.AMD64v6_1})
	b.elf, b.zlib, b.raw = lab.Dump(vmlab.ELFPaging), lab.Dump(vmlab.MakedumpfileZlib1), lab.Dump(vmlab.RAM)
	b.debug = lab.Debug()
	b.bare = vmlab.Open(labTest{}, vmlab.Machine{Kernel: vmlab.AMD64v6_1, NoVMCOREINFO: true}).Dump(vmlab.ELF)
	for _, s := range lab.About.Memory() {
		b.segments = append(b.segments, remora.Range{Start: remora.Addr(s.Start), Size: s.End - s.Start})
	}
	main := lab.Truth().Witness(witness.RoleMain)
	anon, _ := main.Find(witness.Anon)
	b.main, b.areas = main.Pid, lab.Truth().Witness(witness.RoleAreas).Pid
	b.anon = remora.Range{Start: remora.Addr(anon.Start), Size: anon.End - anon.Start}
	b.python = vmlab.DrgnPython()
	if _, err := exec.LookPath("crash"); err != nil || b.python == "" {
		return nil, fmt.Errorf("it needs crash, and drgn for python3: %w", errors.Join(err, errors.ErrUnsupported))
	}
	b.remora = filepath.Join(b.dir, "remora")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", b.remora, "github.com/remora-go/remora/cmd/remora").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w: %s", err, out)
	}
	return b, errors.Join(b.peerScript(), b.silence())
}

// silence makes the copy of the memory without the note that the kernel keeps there.
func (b *kernels) silence() error {
	memory, err := os.ReadFile(b.raw)
	if err != nil {
		return err
	}
	const page, name, end = 4096, 12, 24 // of the note: its name behind three words
	for off := 0; off+page <= len(memory); off += page {
		if bytes.HasPrefix(memory[off+name:], []byte("VMCOREINFO\x00")) {
			clear(memory[off:][:end])
		}
	}
	b.mute = filepath.Join(b.dir, "memory")
	return os.WriteFile(b.mute, memory, 0o600)
}

// peerScript puts the twin's text where Python finds it.
func (b *kernels) peerScript() error {
	text, err := sources.ReadFile("testdata/peer.py")
	if err != nil {
		return err
	}
	return os.WriteFile(b.script(), text, 0o600)
}

func (b *kernels) script() string { return filepath.Join(b.dir, "peer.py") }

func (b *kernels) twin() (*twin, error) {
	return (&twin{cmd: exec.Command(b.python, b.script(), "serve")}).start()
}

func (b *kernels) close() error {
	for _, m := range b.open {
		m.Close()
	}
	return os.RemoveAll(b.dir)
}

// command is a program that is run n times to its end. Its output is not looked at.
func command(in, name string, args ...string) func(n int) error {
	return func(n int) error {
		for range n {
			cmd := exec.Command(name, args...)
			cmd.Stdin = strings.NewReader(in)
			if out, err := cmd.CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", filepath.Base(name), err, out[max(0, len(out)-500):])
			}
		}
		return nil
	}
}

func (b *kernels) rows() ([]row, error) {
	nothing := command("", "/bin/true")
	from, to := bytes.Repeat([]byte{1}, 8<<20), bytes.Repeat([]byte{2}, 8<<20)
	run := func(name, limit string, args []string, peer func(n int) error) row {
		return row{name: name, limit: limit, wide: true, here: command("", b.remora, args...), peer: peer}
	}
	rows := []row{
		{name: "start of /bin/true", peer: nothing, wide: true},
		{name: "memcpy of 8 MiB", bytes: 8 << 20, peer: func(n int) error {
			for range n {
				copy(to, from)
			}
			return nil
		}},
		run("remora version, by /bin/true", "", []string{"version"}, nothing),
		run("remora ps, ELF, by drgn", "at most 0.25", []string{"ps", b.elf}, command("", b.python, b.script(), "ps", b.elf, b.debug)),
		run("remora ps, zlib, by drgn", "at most 0.25", []string{"ps", b.zlib}, command("", b.python, b.script(), "ps", b.zlib, b.debug)),
		run("remora ps, ELF, by crash", "at most 0.05", []string{"ps", b.elf}, command("ps\nquit\n", "crash", "-s", b.debug, b.elf)),
		run("remora ps, zlib, by crash", "at most 0.05", []string{"ps", b.zlib}, command("ps\nquit\n", "crash", "-s", b.debug, b.zlib)),
		run("remora sym, one name, by /bin/true", "at most 30 ms", []string{"sym", b.elf, "vfs_read"}, nothing),
	}
	in, err := b.inside(nothing)
	if err != nil {
		return nil, err
	}
	for _, path := range []string{b.elf, b.zlib} {
		r, err := b.readRow(path)
		if err != nil {
			return nil, err
		}
		in = append(in, r)
	}
	return append(rows, in...), nil
}

// kernel opens the kernel in an image, and leaves it open.
func (b *kernels) kernel(path string) (*target.Kernel, error) {
	t, err := target.Open(context.Background(), "vmcore:"+path, nil)
	if err != nil {
		return nil, err
	}
	b.open = append(b.open, t)
	return t.(*target.Kernel), nil
}

// fresh has something done with a kernel that was just opened.
func fresh(path string, o *target.Options, do func(k *target.Kernel) error) func(n int) error {
	return func(n int) error {
		for range n {
			t, err := target.Open(context.Background(), "vmcore:"+path, o)
			if err != nil {
				return err
			}
			if err := errors.Join(do(t.(*target.Kernel)), t.Close()); err != nil {
				return err
			}
		}
		return nil
	}
}

// inside are the rows about what one process does, with limits in milliseconds.
func (b *kernels) inside(nothing func(n int) error) ([]row, error) {
	ctx := context.Background()
	k, err := b.kernel(b.elf)
	if err != nil {
		return nil, err
	}
	symbols := 0
	all := func(k *target.Kernel) error {
		s, err := k.Symbols(ctx)
		if err != nil {
			return err
		}
		symbols = 0
		for _, err := range s.All(ctx) {
			if err != nil {
				return err
			}
			symbols++
		}
		return nil
	}
	banner, err := k.Symbol(ctx, "linux_banner")
	if err = errors.Join(err, all(k)); err != nil || len(banner) == 0 {
		return nil, fmt.Errorf("%s: no symbols: %w", b.elf, errors.Join(err, errors.ErrUnsupported))
	}
	tables := func(k *target.Kernel) error { _, err := k.Tables(ctx); return err }
	var size uint64
	for _, r := range b.segments {
		size += r.Size
	}
	slow := fmt.Sprintf("at most %d ms", size*500>>30)
	raw := &target.Options{Format: vmcore.Raw, Segments: b.segments}
	rows := []row{
		{name: "open, and a byte of the kernel", limit: "at most 25 ms", here: fresh(b.elf, nil, func(k *target.Kernel) error {
			_, err := k.Memory().Uint8(ctx, banner[0].Addr)
			return err
		})},
		{name: "open, and all symbols", limit: fmt.Sprintf("at most %d ms", symbols*60/150_000), here: fresh(b.elf, nil, all)},
		{name: "2,000 mappings", limit: "at most 2 ms", here: func(n int) error { return b.mappings(k.Kernel, n) }},
		{name: "open by registers", limit: "at most 100 ms", here: fresh(b.bare, nil, tables)},
		{name: "open by VMCOREINFO in memory", limit: slow, here: fresh(b.raw, raw, tables)},
		{name: "open by kallsyms in memory", limit: slow, here: fresh(b.mute, raw, tables)},
	}
	for i := range rows {
		rows[i].peer, rows[i].wide = nothing, true
	}
	return rows, nil
}

// mappings lists those of the witness that has so many, n times.
func (b *kernels) mappings(k *kernel.Kernel, n int) error {
	ctx := context.Background()
	for range n {
		p, err := k.Process(ctx, b.areas, nil)
		if err != nil {
			return err
		}
		count := 0
		for _, err := range p.Regions(ctx) {
			if err != nil {
				return err
			}
			count++
		}
		if err := p.Close(); err != nil || count < 2000 {
			return fmt.Errorf("%d mappings: %w", count, errors.Join(err, errors.ErrUnsupported))
		}
	}
	return nil
}

// readRow reads memory of the main witness, which both sides have read before.
func (b *kernels) readRow(path string) (row, error) {
	k, err := b.kernel(path)
	if err != nil {
		return row{}, err
	}
	p, err := k.Process(context.Background(), b.main, nil)
	if err != nil {
		return row{}, err
	}
	b.open = append(b.open, p)
	name, limit := "ELF", "at most 0.67"
	if path == b.zlib {
		name, limit = "zlib", "at most 0.50"
	}
	buf := make([]byte, b.anon.Size)
	return row{
		name: fmt.Sprintf("%d MiB of a process, %s, by drgn", len(buf)>>20, name), limit: limit, bytes: len(buf),
		prepare: func(t *twin) error {
			_, _, err := t.run("load %s %s %d %x %d", path, b.debug, b.main, uint64(b.anon.Start), b.anon.Size)
			return err
		},
		here: func(n int) error {
			for range n {
				if _, err := p.Memory().ReadAt(context.Background(), buf, b.anon.Start); err != nil {
					return err
				}
			}
			return nil
		},
		there: func(_ *twin, n int) string { return fmt.Sprint("read ", n) },
	}, nil
}
