// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	debug.SetGCPercent(-1) // nothing moves or goes that need not
	if len(os.Args) > 2 && os.Args[1] == "witness" {
		if err := beWitness(os.Args[2]); err != nil {
			fmt.Fprintf(os.Stderr, "witness %s: %v\n", os.Args[2], err)
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is the /init of a virtual machine")
		os.Exit(2)
	}
	if err := beInit(); err != nil {
		say("remora: failed: %v", err)
		time.Sleep(100 * time.Millisecond) // the console is slow
		unix.Sync()
		unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	for {
		unix.Pause()
	}
}

// say prints a line on the console. The host reads those that begin with "remora: ".
func say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "\n"+format+"\n", args...)
}

// beInit does the whole of what the host asked for. It gives nil when the guest is to
// stay as it is.
func beInit() error {
	if err := mountAll(); err != nil {
		return err
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if err := loadModules("/modules"); err != nil {
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
		say("remora: crashing")
		time.Sleep(200 * time.Millisecond) // until a witness spins
		return os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0)
	case "", "witness":
		if err := standWitness(); err != nil {
			return err
		}
		say("remora: ready")
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

// mountAll mounts what any Linux has, and takes standard output to the real console.
func mountAll() error {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/dev/shm"}, {"tmpfs", "/run"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && err != unix.EBUSY {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	os.Stdout, os.Stderr = console, console
	return nil
}

// loadModules loads the files of a directory in the order of their names.
func loadModules(dir string) error {
	names, err := filepath.Glob(dir + "/*.ko")
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && err != unix.EEXIST {
			return fmt.Errorf("%s: %w", name, err)
		}
		os.Remove(name)
	}
	return nil
}

// disk opens the disk with a serial number, waiting for it to appear.
func disk(serial string, flags int) (*os.File, error) {
	for range 500 {
		names, _ := filepath.Glob("/sys/block/vd*/serial")
		for _, name := range names {
			if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == serial {
				return os.OpenFile("/dev/"+filepath.Base(filepath.Dir(name)), flags, 0)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return nil, fmt.Errorf("no disk %q", serial)
}
