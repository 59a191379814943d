// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

// Command agent is the /init of a laboratory guest that stays and does what the host
// asks for: it runs programs, and reads and writes files.
package main

import (
	"bufio"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora/internal/vmlab/errand"
	"github.com/remora-go/remora/internal/vmlab/pid1"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "agent: this is the /init of a virtual machine")
		os.Exit(2)
	}
	pid1.Fail(serve())
}

// serve does one request after another. It comes back when it cannot.
func serve() error {
	console, err := pid1.MountAll()
	if err != nil {
		return err
	}
	// Not every kernel has it.
	if err := unix.Mount("securityfs", "/sys/kernel/security", "securityfs", 0, ""); err != nil {
		fmt.Fprintln(os.Stderr, "securityfs:", err)
	}
	if err := pid1.LoadModules("/modules"); err != nil {
		return err
	}
	if err := pid1.SwapOn(); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/kernel/printk", []byte("1"), 0); err != nil { // the console is ours
		return err
	}
	answer, err := pid1.Disk(errand.Answer, os.O_WRONLY|unix.O_SYNC)
	if err != nil {
		return err
	}
	a := &agent{started: map[int]*program{}}
	in := bufio.NewReader(console)
	pid1.Say("remora: ready")
	for {
		if _, err := in.ReadString('\n'); err != nil {
			return fmt.Errorf("the console: %w", err)
		}
		q, err := request()
		if err != nil {
			return err
		}
		if err := errand.Put(answer, a.do(q)); err != nil {
			return err
		}
		pid1.Say("remora: answer %d", q.Number)
	}
}

// request reads what is asked for now: the disk is opened anew, and what the kernel kept
// of it is dropped.
func request() (*errand.Request, error) {
	f, err := pid1.Disk(errand.Ask, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		return nil, err
	}
	q := &errand.Request{}
	return q, errand.Take(f, q)
}
