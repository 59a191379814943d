// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora/internal/vmlab/pid1"
)

func main() {
	debug.SetGCPercent(-1) // nothing moves or goes that need not
	if len(os.Args) > 2 && os.Args[1] == "witness" {
		err := beWitness(os.Args[2]) // which does not end by itself
		fmt.Fprintf(os.Stderr, "witness %s: %v\n", os.Args[2], err)
		os.Exit(1)
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the /init of a virtual machine")
		os.Exit(2)
	}
	if err := beInit(); err != nil {
		pid1.Fail(err)
	}
	for {
		unix.Pause()
	}
}

// beInit does the whole of what the host asked for. It gives nil when the guest is to
// stay as it is.
func beInit() error {
	if _, err := pid1.MountAll(); err != nil {
		return err
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if err := pid1.LoadModules("/modules"); err != nil {
		return err
	}
	if mib := option(string(line), "remora.fill"); mib != "" {
		if err := fill(mib); err != nil {
			return err
		}
	}
	switch mode := option(string(line), "remora.mode"); mode {
	case "capture":
		return capture()
	case "crash":
		if err := loadCrashKernel(option(string(line), "remora.capture")); err != nil {
			return err
		}
		if err := standWitness(); err != nil {
			return err
		}
		pid1.Say("remora: crashing")
		time.Sleep(200 * time.Millisecond) // until a witness spins
		return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "", "witness":
		if err := standWitness(); err != nil {
			return err
		}
		pid1.Say("remora: ready")
		return nil
	default:
		return fmt.Errorf("no mode %q", mode)
	}
}

// option gives the value of name=value in the kernel's command line. Commas in it
// stand for spaces.
func option(line, name string) string {
	for _, f := range strings.Fields(line) {
		if v, ok := strings.CutPrefix(f, name+"="); ok {
			return strings.ReplaceAll(v, ",", " ")
		}
	}
	return ""
}
