// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

// Package pid1 is what any /init of a laboratory guest does first: it mounts what a
// Linux has, loads modules, finds disks, and speaks to the host on the console.
package pid1

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Say prints a line on the console. The host reads those that begin with "remora: ".
func Say(format string, args ...any) {
	fmt.Fprintf(os.Stdout, "\n"+format+"\n", args...)
}

// Fail says why there is no going on, and switches the machine off.
func Fail(why error) {
	Say("remora: failed: %v", why)
	time.Sleep(100 * time.Millisecond) // the console is slow
	unix.Sync()
	unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// MountAll mounts what any Linux has, and takes standard output and error to the real
// console, which it gives.
func MountAll() (console *os.File, err error) {
	for _, m := range []struct{ kind, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/dev/shm"}, {"tmpfs", "/run"}, {"tmpfs", "/tmp"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return nil, err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && err != unix.EBUSY {
			return nil, fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	console, err = os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	os.Stdout, os.Stderr = console, console
	return console, nil
}

// LoadModules loads the files of a directory in the order of their names.
func LoadModules(dir string) error {
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

// Disk opens the disk with a serial number, waiting for it to appear.
func Disk(serial string, flags int) (*os.File, error) {
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

// SwapOn makes the disk "swap" a swap area and switches it on.
func SwapOn() error {
	f, err := Disk("swap", os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	page := os.Getpagesize()
	head := make([]byte, page)
	binary.NativeEndian.PutUint32(head[1024:], 1)                          // version
	binary.NativeEndian.PutUint32(head[1028:], uint32(size/int64(page))-1) // last page
	copy(head[page-10:], "SWAPSPACE2")
	if _, err := f.WriteAt(head, 0); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := swapOnFile(f.Name()); err != nil {
		return fmt.Errorf("swapon: %w", err)
	}
	return nil
}
