// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// globalFlags adds the flags that every verb has.
func (v *invocation) globalFlags(flags *pflag.FlagSet) {
	v.color = choice{value: "auto", of: []string{"auto", "always", "never"}}
	flags.BoolVar(&v.json, "json", false, "print JSON, and errors as JSON objects on stderr")
	flags.Var(&v.timeout, "timeout", "give up after `DURATION`: 500ms, 2s, 1m, or a number of seconds")
	flags.Var(&v.color, "color", "use colours: `WHEN` is auto, always or never")
}

// openFlags adds the flags that say how a target is opened.
func openFlags(flags *pflag.FlagSet) *target.Options {
	o := &target.Options{}
	flags.Var((*doorFlag)(&o.Door), "door", "the way into a live process: `DOOR` is auto, process_vm, proc-mem or ptrace")
	flags.BoolVar(&o.Files, "files", false, "take what a core left out from the mapped files, if their build id agrees")
	flags.StringVar(&o.Root, "root", "", "look for mapped files below `DIR`")
	flags.StringVar(&o.QMP, "qmp", "", "ask the QMP socket `SOCKET` whether the guest behind a gdb stub runs, to leave it so")
	flags.Var((*filesFlag)(&o.Swap), "swap", "read what a process in a kernel image has swapped out from `FILE`, or N=FILE for swap area N; once for each")
	imageFlags(flags, o)
	symbolFlags(flags, o)
	return o
}

// imageFlags adds the flags that say what a kernel image is.
func imageFlags(flags *pflag.FlagSet, o *target.Options) {
	flags.Var((*formatFlag)(&o.Format), "format", "take a kernel image to be of `FORMAT`: elf, kdump, lime, avml or raw")
	flags.BoolVar(&o.ZeroExcluded, "zero-excluded", false, "read what was left out of a kernel image as zeros")
	flags.Var((*addrFlag)(&o.Base), "ram-base", "a raw kernel image begins at physical address `ADDR`")
	flags.Var((*rangeFlag)(&o.Hole), "hole", "a raw kernel image passes over `RANGE`, such as 0xc0000000+1G")
	flags.Var((*rangesFlag)(&o.Segments), "segment", "a raw kernel image holds `RANGE` next, or a guest behind a gdb stub has memory there; once for each, in the order of the file")
	flags.StringVar(&o.VMCoreInfo, "vmcoreinfo", "", "take the VMCOREINFO of the kernel in an image from `FILE`: lines of KEY=VALUE")
	flags.BoolVar(&o.Scan, "scan", false, "look for the VMCOREINFO of a guest of QEMU in its memory: to ask QEMU for it stops the guest for a millisecond")
}

// symbolFlags adds the flags that say where the symbols of a kernel are.
func symbolFlags(flags *pflag.FlagSet, o *target.Options) {
	flags.StringVar(&o.VMLinux, "vmlinux", "", "take the symbols of a kernel from `FILE`, its ELF file")
	flags.StringVar(&o.SystemMap, "system-map", "", "take the symbols of a kernel from `FILE`, its System.map")
	flags.StringVar(&o.Kallsyms, "kallsyms", "", "take the symbols of a kernel from `FILE`, the text of its /proc/kallsyms")
}

// formatFlag is a vmcore.Format.
type formatFlag vmcore.Format

func (f *formatFlag) String() string { return string(*f) }
func (f *formatFlag) Type() string   { return "format" }
func (f *formatFlag) Set(s string) error {
	formats := []vmcore.Format{vmcore.ELF, vmcore.Kdump, vmcore.LiME, vmcore.AVML, vmcore.Raw}
	if !slices.Contains(formats, vmcore.Format(s)) {
		return fmt.Errorf("want elf, kdump, lime, avml or raw")
	}
	*f = formatFlag(s)
	return nil
}

// addrFlag is an address.
type addrFlag remora.Addr

func (f *addrFlag) Type() string { return "addr" }
func (f *addrFlag) String() string {
	if *f == 0 {
		return ""
	}
	return remora.Addr(*f).String()
}
func (f *addrFlag) Set(s string) error {
	n, err := parseNumber(s)
	*f = addrFlag(n)
	return err
}

// rangeFlag is ADDR+LEN or ADDR-END.
type rangeFlag remora.Range

func (f *rangeFlag) Type() string { return "range" }
func (f *rangeFlag) String() string {
	if f.Size == 0 {
		return ""
	}
	return remora.Range(*f).String()
}
func (f *rangeFlag) Set(s string) error {
	r, err := (&locator{}).parseSpan(s, size{given: true})
	switch {
	case err != nil:
		return err
	case r.Size == 0:
		return fmt.Errorf("want ADDR+LEN or ADDR-END")
	case r.Start+remora.Addr(r.Size-1) < r.Start:
		return fmt.Errorf("it passes the last address")
	}
	*f = rangeFlag(r)
	return nil
}

// rangesFlag is a list of them.
type rangesFlag []remora.Range

func (f *rangesFlag) Type() string   { return "range" }
func (f *rangesFlag) String() string { return "" }
func (f *rangesFlag) Set(s string) error {
	var r rangeFlag
	if err := r.Set(s); err != nil {
		return err
	}
	*f = append(*f, remora.Range(r))
	return nil
}

// filesFlag is a list of files.
type filesFlag []string

func (f *filesFlag) Type() string   { return "file" }
func (f *filesFlag) String() string { return "" }
func (f *filesFlag) Set(s string) error {
	if s == "" {
		return fmt.Errorf("want FILE, or N=FILE")
	}
	*f = append(*f, s)
	return nil
}

// choice is a flag with few values.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return "string" }
func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("want one of %s", strings.Join(c.of, ", "))
	}
	c.value = s
	return nil
}

// doorFlag is a proc.Door by name.
type doorFlag proc.Door

func (d *doorFlag) String() string { return proc.Door(*d).String() }
func (d *doorFlag) Type() string   { return "door" }
func (d *doorFlag) Set(s string) error {
	for door := proc.DoorAuto; door <= proc.DoorPtrace; door++ {
		if door.String() == s {
			*d = doorFlag(door)
			return nil
		}
	}
	return fmt.Errorf("want one of auto, process_vm, proc-mem, ptrace")
}

// duration is a length of time; a bare number counts seconds. Zero is no limit.
type duration time.Duration

func (d *duration) String() string {
	if *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}
func (d *duration) Type() string { return "duration" }
func (d *duration) Set(s string) error {
	if _, err := strconv.ParseFloat(s, 64); err == nil {
		s += "s"
	}
	t, err := time.ParseDuration(s)
	if err != nil || t <= 0 {
		return fmt.Errorf("want a time above zero, such as 500ms, 2s, 1m")
	}
	*d = duration(t)
	return nil
}

// limit ends a context when the time is over.
func (d *duration) limit(ctx context.Context) (context.Context, context.CancelFunc) {
	if *d == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(*d))
}

// wantsColor follows --color, then NO_COLOR (no-color.org), TERM and whether
// standard output is a terminal.
func (v *invocation) wantsColor() bool {
	switch v.color.value {
	case "always":
		return true
	case "never":
		return false
	}
	f, ok := v.io.Out.(*os.File)
	return ok && v.io.Getenv("NO_COLOR") == "" && v.io.Getenv("TERM") != "dumb" && term.IsTerminal(int(f.Fd()))
}
