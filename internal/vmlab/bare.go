// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/qmp"
	"github.com/remora-go/remora/internal/sys/linux"
	"github.com/remora-go/remora/internal/testneed"
)

// Bare is a PC in QEMU with nothing to boot: for tests of what needs no kernel. It starts
// in a tenth of a second.
type Bare struct {
	cmd *exec.Cmd
	dir string
	qmp *qmp.Client
}

// BareMiB is the memory of a Bare, where its arguments do not say otherwise.
const BareMiB = 64

// StartBare starts one with more arguments for QEMU: "-S" has its processor stand still.
// It ends with the test. It skips the test, or fails it under REMORA_REQUIRE, where there
// is no QEMU.
func StartBare(t testing.TB, args ...string) *Bare {
	t.Helper()
	program := emulator("amd64")
	if _, err := exec.LookPath(program); err != nil {
		testneed.Lacks(t, "vmlab: needs the program "+program)
	}
	b := &Bare{}
	var err error
	if b.dir, err = newSocketDir(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(b.dir) })
	b.cmd = exec.Command(program, append([]string{"-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg",
		"-m", fmt.Sprint(BareMiB),
		"-qmp", "unix:" + b.dir + "/qmp,server=on,wait=off", "-qmp", "unix:" + b.QMP() + ",server=on,wait=off"}, args...)...)
	b.cmd.SysProcAttr = linux.DiesWithParent()
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Kill)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for b.qmp == nil {
		if b.qmp, err = qmp.Dial(ctx, b.dir+"/qmp", nil); err != nil {
			if ctx.Err() != nil {
				t.Fatalf("vmlab: %v", err)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	for { // the other one comes later
		c, err := net.Dial("unix", b.QMP())
		if err == nil {
			c.Close()
			return b
		}
		if ctx.Err() != nil {
			t.Fatalf("vmlab: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// BareShared are the arguments for a PC whose memory is a memfd.
func BareShared() []string {
	return []string{"-M", "pc,memory-backend=ram", "-object", fmt.Sprintf("memory-backend-memfd,id=ram,size=%dM,share=on", BareMiB)}
}

// QMP gives the path of a QMP socket that nobody else uses.
func (b *Bare) QMP() string { return b.dir + "/monitor" }

// PID gives the process of QEMU.
func (b *Bare) PID() int { return b.cmd.Process.Pid }

// Execute gives QEMU a QMP command, through a socket of the laboratory's.
func (b *Bare) Execute(ctx context.Context, command string, args, result any) error {
	return b.qmp.Execute(ctx, command, args, result)
}

// Kill ends QEMU, and waits until it is gone.
func (b *Bare) Kill() {
	b.cmd.Process.Kill()
	b.cmd.Wait()
	if b.qmp != nil {
		b.qmp.Close()
	}
}
