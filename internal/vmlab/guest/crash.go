// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora/internal/vmlab/pid1"
)

// loadCrashKernel makes ready the kernel that starts when this one crashes.
func loadCrashKernel(commandLine string) error {
	kernel, err := os.Open("/crash/vmlinuz")
	if err != nil {
		return err
	}
	defer kernel.Close()
	initrd, err := os.Open("/crash/initrd")
	if err != nil {
		return err
	}
	defer initrd.Close()
	const onCrash = 2 // KEXEC_FILE_ON_CRASH
	if err := unix.KexecFileLoad(int(kernel.Fd()), int(initrd.Fd()), commandLine, onCrash); err != nil {
		return fmt.Errorf("kexec_file_load: %w", err)
	}
	return os.RemoveAll("/crash") // the memory is better used
}

// capture copies the crashed kernel's memory to the disk "vmcore" and powers off.
func capture() error {
	core, err := os.Open("/proc/vmcore")
	if err != nil {
		return err
	}
	to, err := pid1.Disk("vmcore", os.O_WRONLY)
	if err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{core}, make([]byte, 1<<20))
	if err != nil {
		return err
	}
	if err := to.Sync(); err != nil {
		return err
	}
	pid1.Say("remora: captured %d", n)
	unix.Sync()
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}
