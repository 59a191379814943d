// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/vmcore"
)

// Kernel is a kernel as a target: one in an image, or one that runs. Its Memory is that
// of the kernel, at virtual addresses; Phys has physical memory.
type Kernel struct {
	*kernel.Kernel
	Phys remora.Target // of an image, a *vmcore.Image
}

var (
	_ remora.Target     = (*Kernel)(nil)
	_ remora.Mapper     = (*Kernel)(nil)
	_ remora.Translator = (*Kernel)(nil)
	_ remora.Describer  = (*Kernel)(nil)
	_ remora.Pauser     = (*Kernel)(nil)
)

// machine is physical memory, and what is known of the machine that has it.
type machine struct {
	phys  remora.Target
	name  string
	hints *kernel.Hints
}

// imageMachine is the machine that an image was made of.
func imageMachine(img *vmcore.Image, name string, given *kernel.VMCoreInfo, o *Options) *machine {
	m := img.Meta()
	h := o.hints(m.Machine, given)
	from := "the image"
	if m.Format == vmcore.Kcore {
		from = "/proc/kcore"
	}
	if given == nil && m.VMCoreInfo != nil {
		h.VMCoreInfo, h.InfoFrom = kernel.ParseVMCoreInfo(m.VMCoreInfo), from
	}
	if m.HasBase {
		h.PhysBase = append(h.PhysBase, kernel.Value{N: m.PhysBase, From: from})
	}
	for _, c := range m.CPUs {
		h.CPUs = append(h.CPUs, kernel.CPU{Name: fmt.Sprintf("CPU %d", c.Index), Index: c.Index, Regs: c.Regs})
	}
	return &machine{phys: img, name: filepath.Base(name), hints: h}
}

// hints are what a user gave of a kernel; given is his VMCOREINFO, nil for none.
func (o *Options) hints(m elf.Machine, given *kernel.VMCoreInfo) *kernel.Hints {
	return &kernel.Hints{
		Machine: m, VMCoreInfo: given, InfoFrom: o.VMCoreInfo, Given: given != nil,
		VMLinux: o.VMLinux, SystemMap: o.SystemMap, Kallsyms: o.Kallsyms,
	}
}

// kernel gives the kernel in a machine's memory, and keeps that: closing the one closes
// the other.
func (m *machine) kernel() *Kernel {
	return &Kernel{kernel.New(m.phys.Memory(), m.name, m.hints), m.phys}
}

// view gives what the text behind the @ asks for. It keeps the memory, and closes it
// where it fails.
func (m *machine) view(ctx context.Context, view string, o *Options) (remora.Target, error) {
	if view == viewPhys {
		return m.phys, nil
	}
	k := m.kernel()
	if view == viewKernel {
		return k, nil
	}
	p, err := openedProcess(ctx, k, view, o)
	if err != nil {
		k.Close()
		return nil, err
	}
	return p, nil
}

// vmcoreinfo reads the VMCOREINFO that a user gave, nil for no file.
func vmcoreinfo(file string) (*kernel.VMCoreInfo, error) {
	if file == "" {
		return nil, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, kernel.MaxVMCoreInfo))
	if err != nil {
		return nil, err
	}
	v := kernel.ReadVMCoreInfo(b)
	if v == nil {
		return nil, &remora.FormatError{File: file, Want: "VMCOREINFO, as lines of KEY=VALUE with OSRELEASE", Got: "something else", Err: remora.ErrCorrupt}
	}
	return v, nil
}

// Pause stops the machine that the kernel runs on. Of an image the error Is
// errors.ErrUnsupported.
func (k *Kernel) Pause(ctx context.Context) (resume func() error, err error) {
	p, ok := remora.As[remora.Pauser](k.Phys)
	if !ok {
		return nil, fmt.Errorf("%s: this target cannot be paused: %w", k.Info().Name, errors.ErrUnsupported)
	}
	return p.Pause(ctx)
}

// pauser gives what can pause a target, if anything can.
func pauser(t remora.Target) (remora.Pauser, bool) {
	switch k := t.(type) {
	case *Process:
		return pauser(k.Kernel)
	case *Kernel:
		return remora.As[remora.Pauser](k.Phys)
	}
	return remora.As[remora.Pauser](t)
}

// Close closes the memory that the kernel is in.
func (k *Kernel) Close() error { return errors.Join(k.Kernel.Close(), k.Phys.Close()) }

// Describe says what the kernel is in, and where it was found there, and how.
func (k *Kernel) Describe(ctx context.Context) ([]remora.Fact, error) {
	var facts []remora.Fact
	if d, ok := remora.As[remora.Describer](k.Phys); ok {
		var err error
		if facts, err = d.Describe(ctx); err != nil {
			return facts, err
		}
	}
	more, err := k.Kernel.Describe(ctx)
	facts = slices.DeleteFunc(facts, func(f remora.Fact) bool { // of which the kernel says more
		return slices.ContainsFunc(more, func(m remora.Fact) bool { return m.Key == f.Key })
	})
	return append(facts, more...), err
}

// OpenImage opens a kernel image, of one file or of the parts of one, whatever their
// names are.
func OpenImage(files []string, o *Options) (*Kernel, error) {
	if o == nil {
		o = &Options{}
	}
	m, err := openMachine(files, o)
	if err != nil {
		return nil, err
	}
	return m.kernel(), nil
}

// openMachine opens the machine that an image was made of.
func openMachine(files []string, o *Options) (*machine, error) {
	given, err := vmcoreinfo(o.VMCoreInfo)
	if err != nil {
		return nil, err
	}
	img, err := openVmcore(files, o)
	if err != nil {
		return nil, err
	}
	return imageMachine(img, files[0], given, o), nil
}

// imagePrefix is before files that are taken for kernel images.
const imagePrefix = "vmcore:"

// openImage opens "vmcore:FILE[,FILE...]".
func openImage(ctx context.Context, spec string, o *Options) (remora.Target, error) {
	rest, ok := strings.CutPrefix(spec, imagePrefix)
	if !ok {
		return nil, errNotThis
	}
	path, view := splitView(rest)
	files := []string{path}
	if !exists(path) {
		files = strings.Split(path, ",")
	}
	for _, f := range files {
		if f == "" {
			return nil, &SpecError{Spec: spec, Why: "no file is named"}
		}
	}
	return imageFiles(ctx, files, view, o)
}

// The views of a kernel image, as they are written behind an @.
const (
	viewPhys   = "phys"
	viewKernel = ""
)

// splitView takes apart FILE@VIEW. A file whose name ends as a view does is written as
// ./NAME where there is another one without that end.
func splitView(spec string) (path, view string) {
	at := strings.LastIndexByte(spec, '@')
	if at <= 0 || spec[at+1:] != viewPhys && !allDigits(spec[at+1:]) {
		return spec, viewKernel
	}
	path, view = spec[:at], spec[at+1:]
	if exists(spec) && (strings.HasPrefix(spec, "./") || !exists(path)) {
		return spec, viewKernel
	}
	return path, view
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// imageFiles opens a kernel image of one file, or of the parts of one.
func imageFiles(ctx context.Context, files []string, view string, o *Options) (remora.Target, error) {
	m, err := openMachine(files, o)
	if err != nil {
		return nil, err
	}
	return m.view(ctx, view, o)
}

// openVmcore opens the files of an image as the options say.
func openVmcore(files []string, o *Options) (*vmcore.Image, error) {
	img, err := vmcore.Open(files[0], &vmcore.Options{
		Format: o.Format, Parts: files[1:], Write: o.Write, ZeroExcluded: o.ZeroExcluded,
		Base: o.Base, Hole: o.Hole, Segments: o.Segments,
	})
	if err == nil && o.Write && !img.Info().Writable {
		as := img.Meta().Format
		img.Close()
		return nil, fmt.Errorf("%s: an image of the format %s cannot be written in place; convert it to ELF first: %w", files[0], as, remora.ErrReadOnly)
	}
	return img, err
}

// imageFile is imageFiles for one.
func imageFile(ctx context.Context, path string, o *Options) (remora.Target, error) {
	return imageFiles(ctx, []string{path}, viewKernel, o)
}
