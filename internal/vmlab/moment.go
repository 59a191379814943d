// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/remora-go/remora/internal/vmlab/witness"
)

// swapSize is the size of a guest's swap disk in bytes.
const swapSize = 16 << 20

// maxTries is how often a guest is stopped to find a processor in the witness.
const maxTries = 200

// recipe is everything that a moment is made of.
type recipe struct {
	machine Machine
	kernel  Kernel
	dir     string // of the kernel's files
	modules []string
	init    []byte
	log     func(format string, args ...any)
}

// run boots a guest into dir: its files stay there.
func (r *recipe) run(ctx context.Context, dir, mode string, files []carried, more []disk) (*guest, error) {
	data := make([]byte, witness.DataSize)
	witness.Fill(data, witness.DataSeed)
	if err := os.WriteFile(dir+"/data", data, 0o644); err != nil {
		return nil, err
	}
	disks := append([]disk{{"data", dir + "/data"}, {"swap", dir + "/swap"}, {"truth", dir + "/truth.tar"}}, more...)
	for name, size := range map[string]int64{"swap": swapSize, "truth.tar": 128 << 20} {
		if err := sparse(filepath.Join(dir, name), size); err != nil {
			return nil, err
		}
	}
	return r.start(ctx, dir, mode, dir+"/ram", files, disks, func(string) []string { return nil })
}

// start starts QEMU with a kernel that has files, and disks. ram is as for arguments;
// more gives further arguments, of which some name sockets in a directory.
func (r *recipe) start(ctx context.Context, dir, mode, ram string, files []carried, disks []disk, more func(sockets string) []string) (*guest, error) {
	fs, err := initramfs(r.init, r.modules, files)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(dir+"/initrd", fs, 0o644); err != nil {
		return nil, err
	}
	sockets, err := newSocketDir()
	if err != nil {
		return nil, err
	}
	args := append(r.machine.arguments(r.kernel.Arch, ram, sockets+"/qmp", disks), more(sockets)...)
	args = append(args, "-kernel", r.dir+"/vmlinuz", "-initrd", dir+"/initrd", "-append", r.machine.commandLine(r.kernel.Arch, mode))
	log, err := os.Create(dir + "/console.log")
	if err != nil {
		return nil, err
	}
	g, err := boot(ctx, r.kernel.Arch, args, ram, sockets, log)
	if err != nil {
		os.RemoveAll(sockets)
		return nil, fmt.Errorf("%w; the console:\n%s", err, tail(dir+"/console.log"))
	}
	return g, nil
}

// sparse makes a file of a size without writing to it.
func sparse(name string, size int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Truncate(size)
}

// bootTries is how often a guest is booted: an emulated machine can fail in ways that
// a real one does not. Each failure is in the log of the test.
const bootTries = 3

// standing boots a guest and stops it in its witness.
func (r *recipe) standing(ctx context.Context, dir string) (l *Live, err error) {
	for range bootTries {
		if l, err = r.standOnce(ctx, dir); err == nil || ctx.Err() != nil {
			return l, err
		}
		r.log("vmlab: %s: a boot failed: %v", r.machine, err)
	}
	return nil, err
}

func (r *recipe) standOnce(ctx context.Context, dir string) (*Live, error) {
	g, err := r.run(ctx, dir, "witness", nil, nil)
	if err != nil {
		return nil, err
	}
	l := &Live{guest: g}
	if _, err = g.await(ctx, "ready"); err == nil {
		err = l.find(ctx)
	}
	if err != nil {
		g.kill()
		os.RemoveAll(g.dir)
		return nil, fmt.Errorf("%w; the console ended so:\n%s", err, tail(dir+"/console.log"))
	}
	return l, nil
}

// tail gives the end of a file, for a message.
func tail(name string) string {
	b, _ := os.ReadFile(name)
	return string(b[max(0, len(b)-3000):])
}

// Live is a guest that is stopped in user mode in the witness of role main.
type Live struct {
	guest     *guest
	file      *os.File
	RAM       []Segment
	CPU       int // the processor that the witness is on
	KernelCPU int // a processor that is in kernel mode
	Tries     int // stops that it took
}

// find stops the guest again and again until one processor is in user mode, with the
// marker page at its address, and another one in kernel mode.
func (l *Live) find(ctx context.Context) error {
	g := l.guest
	text, err := g.hmp(ctx, 0, "info mtree -f")
	if err != nil {
		return err
	}
	if l.RAM, err = segments(text); err != nil {
		return err
	}
	if l.file, err = os.Open(g.ram); err != nil {
		return err
	}
	for l.Tries = 1; l.Tries <= maxTries; l.Tries++ {
		time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		if err := g.qmp.Execute(ctx, "stop", nil, nil); err != nil {
			return err
		}
		if ok, err := l.look(ctx); ok || err != nil {
			return err
		}
		if err := g.qmp.Execute(ctx, "cont", nil, nil); err != nil {
			return err
		}
	}
	return fmt.Errorf("no processor was in the witness at %d stops", maxTries)
}

// look sets CPU and KernelCPU if there are such now.
func (l *Live) look(ctx context.Context) (bool, error) {
	user, kernel := false, false
	for cpu := range cpus {
		registers, err := l.guest.hmp(ctx, cpu, "info registers")
		if err != nil {
			return false, err
		}
		pc, err := programCounter(registers)
		if err != nil {
			return false, err
		}
		if pc>>63 != 0 {
			l.KernelCPU, kernel = cpu, true
			continue
		}
		ok, err := l.hasMarker(ctx, cpu)
		if err != nil {
			return false, err
		}
		if ok {
			l.CPU, user = cpu, true
		}
	}
	return user && kernel, nil
}

// hasMarker says whether a processor has the marker page at its address.
func (l *Live) hasMarker(ctx context.Context, cpu int) (bool, error) {
	pa, ok, err := l.guest.translate(ctx, cpu, witness.Base)
	if err != nil || !ok {
		return false, err
	}
	got := make([]byte, len(witness.Marker))
	if _, err := l.ReadAt(got, int64(pa)); err != nil {
		return false, nil // not RAM: not it
	}
	return bytes.Equal(got, []byte(witness.Marker)), nil
}

// ReadAt reads the guest's physical memory.
func (l *Live) ReadAt(p []byte, at int64) (int, error) {
	return physical{l.file, l.RAM}.ReadAt(p, at)
}

// Translate asks QEMU what a processor makes of an address (gva2gpa), in the mode that
// it is in: in user mode it may not be let into the kernel's memory.
func (l *Live) Translate(ctx context.Context, cpu int, va uint64) (pa uint64, mapped bool, err error) {
	return l.guest.translate(ctx, cpu, va)
}

// Registers gives "info registers" of a processor.
func (l *Live) Registers(ctx context.Context, cpu int) (string, error) {
	text, err := l.guest.hmp(ctx, cpu, "info registers")
	return strings.ReplaceAll(text, "\r", ""), err
}

// Close ends the guest.
func (l *Live) Close() {
	l.guest.kill()
	os.RemoveAll(l.guest.dir)
	l.file.Close()
}
