// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// What a guest that crashes has of memory, and what of it is for the kernel that comes
// next, in MiB.
const (
	crashMiB     = 512
	crashReserve = 192
)

// OpenCrash gives a machine whose kernel crashed, with /proc/vmcore as the kernel that
// came next had it: its images are Vmcore, what makedumpfile makes of that (amd64), and
// RAM, which is true outside the memory that was reserved for the next kernel ("Crash
// kernel" in the truth's /proc/iomem). It needs a kernel with kexec_file_load, as
// Debian's for amd64 are. The rest is as for Open.
func OpenCrash(t testing.TB, m Machine) *Lab {
	t.Helper()
	if m.MiB == 0 {
		m.MiB = crashMiB
	}
	m.Options = strings.TrimSpace(fmt.Sprintf("%s crashkernel=%dM", m.Options, crashReserve))
	return open(t, m, "crash", func(ctx context.Context, r *recipe, dir string) error {
		return r.makeCrash(ctx, dir)
	})
}

// makeCrash boots a guest that crashes, and keeps what the next kernel copies.
func (r *recipe) makeCrash(ctx context.Context, dir string) error {
	vmlinuz, err := os.ReadFile(r.dir + "/vmlinuz")
	if err != nil {
		return err
	}
	initrd, err := initramfs(r.init, r.modules, nil)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	core := dir + "/" + string(procVmcore)
	if err := sparse(core, int64(r.machine.mib()+64)<<20); err != nil {
		return err
	}
	next := r.machine
	next.Options = "reset_devices nr_cpus=1"
	capture := strings.ReplaceAll(next.commandLine(r.kernel.Arch, "capture"), " ", ",")
	again := *r
	again.machine.Options += " remora.capture=" + capture
	files := []carried{{"crash/vmlinuz", modeFile, vmlinuz}, {"crash/initrd", modeFile, initrd}}
	size, err := r.crash(ctx, dir, func() (*guest, error) {
		return again.run(ctx, dir, "crash", files, []disk{{"vmcore", core}})
	})
	if err != nil {
		return err
	}
	if err := trimTar(dir + "/truth.tar"); err != nil {
		return err
	}
	return errors.Join(os.Truncate(core, size), os.Remove(dir+"/initrd"))
}

// crash has a guest boot and crash, and gives the size of the vmcore.
func (r *recipe) crash(ctx context.Context, dir string, boot func() (*guest, error)) (size int64, err error) {
	for range bootTries {
		if size, err = r.crashOnce(ctx, dir, boot); err == nil || ctx.Err() != nil {
			break
		}
		r.log("vmlab: %s: a crash failed: %v", r.machine, err)
	}
	return size, err
}

func (r *recipe) crashOnce(ctx context.Context, dir string, boot func() (*guest, error)) (int64, error) {
	g, err := boot()
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(g.dir)
	defer g.kill()
	size, err := r.watchCrash(ctx, g, dir)
	if err == nil && size <= 0 {
		err = errors.New("the vmcore is empty")
	}
	if err != nil {
		return 0, fmt.Errorf("%w; the console ended so:\n%s", err, tail(dir+"/console.log"))
	}
	return size, nil
}

// watchCrash waits for the crash and for the end, and gives the size of the vmcore.
func (r *recipe) watchCrash(ctx context.Context, g *guest, dir string) (int64, error) {
	if _, err := g.await(ctx, "crashing"); err != nil {
		return 0, err
	}
	text, err := g.hmp(ctx, 0, "info mtree -f")
	if err != nil {
		return 0, err
	}
	l := &Live{guest: g}
	if l.RAM, err = segments(text); err != nil {
		return 0, err
	}
	if err := r.keepAbout(l, dir); err != nil {
		return 0, err
	}
	said, err := g.await(ctx, "captured")
	if err != nil {
		return 0, err
	}
	select {
	case <-g.gone: // the disks are whole
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return strconv.ParseInt(said, 10, 64)
}
