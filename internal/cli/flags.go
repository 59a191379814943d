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

	"github.com/remora-go/remora/proc"
	"github.com/remora-go/remora/target"
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
	return o
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
