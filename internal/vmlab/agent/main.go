// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

// Command agent is the /init of a laboratory guest that stays and does what the host
// asks for: it runs programs, and reads and writes files.
package main

import (
	"bufio"
	"fmt"
	"os"
	"time"

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
	for last := 0; ; {
		line, err := in.ReadString('\n')
		if err != nil {
			return fmt.Errorf("the console: %w", err)
		}
		var number int
		if _, err := fmt.Sscanf(line, "go %d", &number); err != nil || number < last {
			continue // a line that was lost in part is said again
		}
		if number > last {
			q, err := request(number)
			if err != nil {
				return err
			}
			if err := errand.Put(answer, a.do(q)); err != nil {
				return err
			}
			last = number
		}
		pid1.Say("remora: answer %d", number)
	}
}

// request reads what is asked for now: the disk is opened anew, and what the kernel kept
// of it is dropped, which it need not do at once.
func request(number int) (*errand.Request, error) {
	for tries := 0; ; tries++ {
		f, err := pid1.Disk(errand.Ask, os.O_RDONLY)
		if err != nil {
			return nil, err
		}
		err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
		q := &errand.Request{}
		if err == nil {
			err = errand.Take(f, q)
		}
		f.Close()
		if err == nil && q.Number == number {
			return q, nil
		}
		if tries == 1000 {
			return nil, fmt.Errorf("request %d does not come: number %d is there, %v", number, q.Number, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
