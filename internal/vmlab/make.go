// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/remora-go/remora/internal/vmlab/witness"
)

// makeMoment boots a guest, stops it, and keeps all that can be had of that stop.
func (r *recipe) makeMoment(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	l, err := r.standing(ctx, dir)
	if err != nil {
		return err
	}
	defer l.Close()
	if err := trimTar(dir + "/truth.tar"); err != nil {
		return err
	}
	if err := r.keepAbout(l, dir); err != nil {
		return err
	}
	if err := l.keepRegisters(ctx, dir); err != nil {
		return err
	}
	if err := l.keepTranslations(ctx, dir); err != nil {
		return err
	}
	var able struct{ Formats []string }
	if err := l.guest.qmp.Execute(ctx, "query-dump-guest-memory-capability", nil, &able); err != nil {
		return err
	}
	for _, d := range r.formats() {
		if !slices.Contains(able.Formats, d.format) {
			continue // QEMU can be built without a codec
		}
		if err := l.guest.dump(ctx, dir+"/"+string(d.name), d.format, d.paging); err != nil {
			return fmt.Errorf("dump %s: %w", d.name, err)
		}
		if d.format == "elf" {
			if err := dig(ctx, dir+"/"+string(d.name)); err != nil {
				return err
			}
		}
	}
	return os.Remove(dir + "/initrd")
}

// dig gives back the disk that pages of zeros take, where the tool for it is.
func dig(ctx context.Context, name string) error {
	if _, err := exec.LookPath("fallocate"); err != nil {
		return nil
	}
	return exec.CommandContext(ctx, "fallocate", "--dig-holes", name).Run()
}

// qemuDump is an image that QEMU makes of a stopped guest.
type qemuDump struct {
	name   Format
	format string // QEMU's name of it
	paging bool
}

// formats gives the images that QEMU makes of this machine. A large one is not written
// out in each, and only of amd64 does QEMU walk the page tables.
func (r *recipe) formats() []qemuDump {
	all := []qemuDump{{ELF, "elf", false}, {KdumpZlib, "kdump-zlib", false}}
	if r.machine.mib() > 1024 {
		return all
	}
	if r.kernel.Arch == "amd64" {
		all = append(all, qemuDump{ELFPaging, "elf", true})
	}
	return append(all, qemuDump{KdumpLZO, "kdump-lzo", false}, qemuDump{KdumpSnappy, "kdump-snappy", false})
}

// trimTar cuts off what follows an archive.
func trimTar(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	in := tar.NewReader(f)
	for {
		if _, err := in.Next(); err == io.EOF {
			break
		} else if err != nil {
			return fmt.Errorf("the truth: %w", err)
		}
	}
	end, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	return f.Truncate(end)
}

func (r *recipe) keepAbout(l *Live, dir string) error {
	v := l.guest.qmp.Version()
	a := About{Machine: r.machine, QEMU: fmt.Sprintf("%d.%d.%d (%s)", v.Major, v.Minor, v.Micro, v.Package),
		RAM: l.RAM, CPU: l.CPU, KernelCPU: l.KernelCPU, Tries: l.Tries}
	packages, err := os.ReadFile(r.dir + "/packages")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(packages)) {
		a.Packages = append(a.Packages, strings.Fields(line)[1])
	}
	b, err := json.MarshalIndent(a, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(dir+"/about.json", b, 0o644)
}

func (l *Live) keepRegisters(ctx context.Context, dir string) error {
	for cpu := range cpus {
		text, err := l.Registers(ctx, cpu)
		if err != nil {
			return err
		}
		if err := os.WriteFile(fmt.Sprintf("%s/registers.%d", dir, cpu), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// translations is how many addresses of a moment QEMU is asked about.
const translations = 10_000

// keepTranslations asks QEMU for addresses of every sort: a line each, in hexadecimal,
// with the physical address or -, and the processor asked. One in user mode is not let
// into the kernel's memory on every architecture, so another one is asked about that.
func (l *Live) keepTranslations(ctx context.Context, dir string) error {
	truth, err := readTruth(dir + "/truth.tar")
	if err != nil {
		return err
	}
	f, err := os.Create(dir + "/gva2gpa")
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriter(f)
	for _, va := range addresses(truth, translations) {
		cpu := l.CPU
		if va>>63 != 0 {
			cpu = l.KernelCPU
		}
		pa, ok, err := l.guest.translate(ctx, cpu, va)
		switch {
		case err != nil:
			return err
		case ok:
			fmt.Fprintf(out, "%x %x %d\n", va, pa, cpu)
		default:
			fmt.Fprintf(out, "%x - %d\n", va, cpu)
		}
	}
	return out.Flush()
}

// addresses picks n addresses: of the main witness's regions (and just outside them) for
// one half, of the kernel's symbols and of its other memory for the rest.
func addresses(truth *Truth, n int) []uint64 {
	var all []uint64
	state := uint64(1)
	next := func(below uint64) uint64 { // a repeatable choice
		state = state*6364136223846793005 + 1442695040888963407
		return (state >> 16) % below
	}
	main := truth.Witness(witness.RoleMain)
	for i := 0; len(all) < n/2; i++ {
		g := main.Regions[i%len(main.Regions)]
		all = append(all, g.Start-0x2000+next(g.End-g.Start+0x4000))
	}
	symbols := truth.Symbols()
	for len(all) < n*4/5 {
		s := symbols[next(uint64(len(symbols)))]
		if s.Addr>>40 != 0 { // no offset in per-CPU memory
			all = append(all, s.Addr+next(64))
		}
	}
	if areas := truth.Vmalloc(); len(areas) > 0 {
		for len(all) < n*17/20 {
			a := areas[next(uint64(len(areas)))]
			all = append(all, a.Start+next(a.End-a.Start))
		}
	}
	pages := truth.Pages(main.Pid)
	for range n { // the direct map
		p := pages[next(uint64(len(pages)))]
		if va, ok := truth.DirectMap(p.Frame * uint64(main.Page)); ok && p.Present() && len(all) < n*19/20 {
			all = append(all, va+next(uint64(main.Page)))
		}
	}
	for len(all) < n { // mostly holes
		all = append(all, 0xffff_8000_0000_0000|next(1<<47))
	}
	return all
}
