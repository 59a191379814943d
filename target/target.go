// SPDX-License-Identifier: Apache-2.0

package target

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/guest"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/usercore"
	"github.com/remora-go/remora/vmcore"
)

// Options say how a target is opened. Nil is the same as the zero Options. What a
// kind of target has no use for is passed over.
type Options struct {
	// Write opens for writing too. Without it a write is remora.ErrReadOnly.
	Write bool
	// Needs are the abilities that the caller cannot do without.
	Needs []Ability

	// For live processes: see proc.Options.
	Door         proc.Door
	Parallel     int
	FollowExec   bool
	Unchecked    bool
	MapShared    bool
	MapUnchecked bool

	// For core files: see usercore.Options.
	Files bool
	Root  string

	// For kernel images: see vmcore.Options. What says of what form an image is has a
	// file taken for one.
	Format       vmcore.Format
	ZeroExcluded bool
	Base         remora.Addr
	Hole         remora.Range
	Segments     []remora.Range

	// Files with the symbols of the kernel in an image: see kernel.Hints.
	VMLinux    string
	SystemMap  string
	Kallsyms   string
	VMCoreInfo string // a file with the VMCOREINFO of the kernel, in place of the image's own

	// For guests of QEMU: see guest.QEMUOptions. Scan looks for the VMCOREINFO of the kernel
	// in all of its memory instead of asking QEMU, which stops the guest for a millisecond.
	Scan     bool
	NoMap    bool
	Watchdog func(*guest.QEMU) (done func() error, err error)

	// For gdb stubs: see guest.StubOptions. QMP is the QMP socket of the same guest, which
	// knows whether it runs, and Segments are where it has memory.
	QMP          string
	StubWatchdog func(*guest.Stub) (done func() error, err error)

	// For processes in kernel images: copies of swap areas, each "FILE", or "N=FILE" with
	// the number of the area. They must be of the same moment as the image.
	Swap []string
}

// image says whether the options take a file for a kernel image.
func (o *Options) image() bool {
	return o.Format != "" || o.Base != 0 || !o.Hole.Empty() || len(o.Segments) > 0
}

// Ability is something besides memory that a target may have.
type Ability uint8

// The abilities.
const (
	Mapper      Ability = iota // remora.Mapper
	Pauser                     // remora.Pauser
	Symbolizer                 // remora.Symbolizer
	Describer                  // remora.Describer
	abilityEnds                // not an ability
)

var abilityNames = [abilityEnds]string{"a list of mappings", "pausing", "symbols", "a description"}

func (a Ability) String() string {
	if a < abilityEnds {
		return abilityNames[a]
	}
	return fmt.Sprintf("ability %d", uint8(a))
}

// in says whether t has the ability.
func (a Ability) in(t remora.Target) bool {
	var ok bool
	switch a {
	case Mapper:
		_, ok = remora.As[remora.Mapper](t)
	case Pauser:
		_, ok = pauser(t)
	case Symbolizer:
		_, ok = remora.As[remora.Symbolizer](t)
	case Describer:
		_, ok = remora.As[remora.Describer](t)
	}
	return ok
}

// opener is one row of the table.
type opener struct {
	form string // as it is written
	what string // in a few words
	// open gives errNotThis when spec does not have the form.
	open func(ctx context.Context, spec string, o *Options) (remora.Target, error)
}

var errNotThis = errors.New("another form")

var openers = [...]opener{
	{"PID, pid:PID", "a live process", openPID},
	{"self", "this process", openSelf},
	{"kernel", "the kernel that runs here", openLive},
	{"kernel@PID", "a process of it, through the kernel's own page tables", openLive},
	{"kernel@phys", "the physical memory of this machine", openLive},
	{"core:FILE", "an ELF core file of a process", openCore},
	{"vmcore:FILE[,FILE...]", "a kernel image, of one file or of the parts of a split one; the memory of the kernel", openImage},
	{"qemu:SOCKET, qemu:PID", "a guest of QEMU that runs, by its QMP socket or its process; the memory of its kernel", openQEMU},
	{"gdb:HOST:PORT, gdb:SOCKET", "a gdb stub: of QEMU, whose guest stands as long as this is open; of gdbserver; of kgdb", openStub},
	{"FILE", "a file whose format is found out", openFile},
	{"IMAGE@PID", "a process in a kernel image or in a kernel that runs: behind each of those", openFile},
	{"IMAGE@phys", "physical memory of a kernel image or of a machine that runs: behind each of those", openFile},
}

// formats are tried in this order for a file.
var formats = [...]func(ctx context.Context, path string, o *Options) (remora.Target, error){
	coreFile,
	imageFile,
}

// Forms lists the ways to name a target, each with what it names.
func Forms() [][2]string {
	list := make([][2]string, len(openers))
	for i, o := range openers {
		list[i] = [2]string{o.form, o.what}
	}
	return list
}

// SpecError is a text that names no target.
type SpecError struct {
	Spec string
	Why  string
	Err  error // fs.ErrNotExist when the form is right, but nothing is there; may be nil
}

func (e *SpecError) Error() string {
	forms := make([]string, len(openers))
	for i, o := range openers {
		forms[i] = o.form + " (" + o.what + ")"
	}
	return fmt.Sprintf("%q: %s; a target is one of: %s", e.Spec, e.Why, strings.Join(forms, ", "))
}

func (e *SpecError) Unwrap() error { return e.Err }

// Open opens the target that spec names. The caller closes it.
func Open(ctx context.Context, spec string, o *Options) (remora.Target, error) {
	if o == nil {
		o = &Options{}
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i := range openers {
		t, err := openers[i].open(ctx, spec, o)
		if err == errNotThis {
			continue
		}
		if err != nil {
			return nil, err
		}
		if err := o.suits(t, spec); err != nil {
			t.Close()
			return nil, err
		}
		return t, nil
	}
	return nil, &SpecError{Spec: spec, Why: "not a form that is known"}
}

// suits says what t lacks.
func (o *Options) suits(t remora.Target, spec string) error {
	if o.Write && !t.Memory().Info().Writable {
		return fmt.Errorf("%s: this kind of target cannot be written: %w", spec, remora.ErrReadOnly)
	}
	for _, a := range o.Needs {
		if !a.in(t) {
			return fmt.Errorf("%s: this target does not have %v: %w", spec, a, errors.ErrUnsupported)
		}
	}
	return nil
}

func openPID(_ context.Context, spec string, o *Options) (remora.Target, error) {
	digits, named := strings.CutPrefix(spec, "pid:")
	if !allDigits(digits) {
		if named {
			return nil, &SpecError{Spec: spec, Why: "not the number of a process"}
		}
		return nil, errNotThis
	}
	pid, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || pid > math.MaxInt32 {
		return nil, fmt.Errorf("pid %s does not exist: no process has so large a number: %w", digits, fs.ErrNotExist)
	}
	return live(int(pid), o)
}

// PID gives the number of the process that spec names, whether or not there is one. ok
// is false where spec names something else.
func PID(spec string) (pid int, ok bool) {
	if spec == "self" {
		return os.Getpid(), true
	}
	digits, _ := strings.CutPrefix(spec, "pid:")
	if !allDigits(digits) {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return int(n), err == nil && n <= math.MaxInt32
}

func openSelf(_ context.Context, spec string, o *Options) (remora.Target, error) {
	if spec != "self" {
		return nil, errNotThis
	}
	return live(os.Getpid(), o)
}

func live(pid int, o *Options) (remora.Target, error) {
	p, err := proc.Open(pid, &proc.Options{
		Write:        o.Write,
		FollowExec:   o.FollowExec,
		Unchecked:    o.Unchecked,
		Parallel:     o.Parallel,
		MapShared:    o.MapShared,
		MapUnchecked: o.MapUnchecked,
		Door:         o.Door,
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

func openCore(ctx context.Context, spec string, o *Options) (remora.Target, error) {
	path, ok := strings.CutPrefix(spec, "core:")
	if !ok {
		return nil, errNotThis
	}
	if path == "" {
		return nil, &SpecError{Spec: spec, Why: "no file is named"}
	}
	return coreFile(ctx, path, o)
}

func coreFile(_ context.Context, path string, o *Options) (remora.Target, error) {
	c, err := usercore.Open(path, &usercore.Options{Files: o.Files, Root: o.Root})
	if err != nil {
		return nil, err
	}
	return c, nil
}

func openFile(ctx context.Context, spec string, o *Options) (remora.Target, error) {
	if spec == "" {
		return nil, &SpecError{Why: "no target is named"}
	}
	path, view := splitView(spec)
	if !exists(path) {
		return nil, &SpecError{Spec: spec, Why: "no such file, and no other form", Err: fs.ErrNotExist}
	}
	if view != viewKernel || o.image() {
		return imageFiles(ctx, []string{path}, view, o)
	}
	var none error
	for _, open := range formats {
		t, err := open(ctx, path, o)
		if err == nil || !errors.Is(err, remora.ErrUnrecognized) {
			return t, err
		}
		none = err
	}
	// The last format knows most kinds of files by name.
	if bad, ok := errors.AsType[*remora.FormatError](none); ok {
		both := *bad
		both.Want = "a core file or " + bad.Want
		none = &both
	}
	return nil, none
}

func allDigits(s string) bool {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != ""
}
