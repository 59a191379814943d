// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/target"
)

// TestLiveQEMUKilled ends QEMU at random moments while its guest is read: each call gives
// all bytes and the right ones, or remora.ErrGone, and 100 ms later each gives that.
func TestLiveQEMUKilled(t *testing.T) {
	times := 100
	if testing.Short() {
		times = 10
	}
	for i := range times {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			args := []string{"-S"}
			if i%2 == 0 {
				args = append(args, vmlab.BareShared()...)
			}
			testKilled(t, vmlab.StartBare(t, args...))
		})
	}
}

func testKilled(t *testing.T, e *vmlab.Bare) {
	x, err := target.Open(t.Context(), "qemu:"+e.QMP()+"@phys", &target.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	const base, size = 16 << 20, 1 << 20
	want := bytes.Repeat([]byte("remora"), size/6+1)[:size]
	if _, err := x.Memory().WriteAt(t.Context(), want, base); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var tasks sync.WaitGroup
	end := make(chan struct{})
	for _, n := range []int{8, 100 << 10} {
		tasks.Go(func() {
			b := make([]byte, n)
			for at := 0; ; at = (at + 12345) % (size - n) {
				late := false
				select {
				case <-end:
					late = true
				default:
				}
				_, err := x.Memory().ReadAt(ctx, b, base+remora.Addr(at))
				switch {
				case errors.Is(err, remora.ErrGone):
				case err != nil || !bytes.Equal(b, want[at:at+n]):
					t.Errorf("a read of %d bytes: %v, or other bytes", n, err)
					return
				case late:
					t.Errorf("a read of %d bytes gives some 100 ms after the exit", n)
				}
				if late {
					return
				}
			}
		})
	}
	time.Sleep(time.Duration(rand.IntN(3000)) * time.Microsecond)
	e.Kill()
	time.Sleep(100 * time.Millisecond)
	close(end)
	tasks.Wait()
}

// TestLiveQEMUReset resets a guest: what was opened before is gone, and it can be opened
// again.
func TestLiveQEMUReset(t *testing.T) {
	e := vmlab.StartBare(t, append(vmlab.BareShared(), "-S")...)
	x, err := target.Open(t.Context(), "qemu:"+e.QMP()+"@phys", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Memory().Uint8(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if err := e.Execute(t.Context(), "system_reset", nil, nil); err != nil {
		t.Fatal(err)
	}
	goes(t, x, "reset")
	x.Close()
	again, err := target.Open(t.Context(), fmt.Sprintf("qemu:%d@phys", e.PID()), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Memory().Uint8(t.Context(), 0); err != nil {
		t.Error(err)
	}
	again.Close()
}

// goes waits until a target that was opened is gone, for that reason.
func goes(t *testing.T, x remora.Target, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var err error
	for !errors.Is(err, remora.ErrGone) && ctx.Err() == nil {
		_, err = x.Memory().Uint8(t.Context(), 0)
	}
	if !errors.Is(err, remora.ErrGone) || !strings.Contains(err.Error(), reason) {
		t.Errorf("after %s: %v", reason, err)
	}
}

// TestLiveQEMUMigrated has a guest go from one QEMU to another: what was opened is gone, the
// first cannot be opened any more, and where the guest is now it can, with its memory.
func TestLiveQEMUMigrated(t *testing.T) {
	way := "unix:" + filepath.Join(t.TempDir(), "way")
	to := vmlab.StartBare(t, append(vmlab.BareShared(), "-S", "-incoming", way)...)
	from := vmlab.StartBare(t, append(vmlab.BareShared(), "-S")...)
	if _, err := target.Open(t.Context(), "qemu:"+to.QMP()+"@phys", nil); err == nil || !strings.Contains(err.Error(), "arriving") {
		t.Errorf("before it is there: %v", err)
	}
	x, err := target.Open(t.Context(), "qemu:"+from.QMP()+"@phys", &target.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	const at, text = 8 << 20, "on its way"
	if _, err := x.Memory().WriteAt(t.Context(), []byte(text), at); err != nil {
		t.Fatal(err)
	}
	if err := from.Execute(t.Context(), "migrate", map[string]any{"uri": way}, nil); err != nil {
		t.Fatal(err)
	}
	goes(t, x, "migrated")
	x.Close() // QEMU serves one client at a time
	if _, err := target.Open(t.Context(), "qemu:"+from.QMP()+"@phys", nil); !errors.Is(err, remora.ErrGone) {
		t.Errorf("opened where it was: %v", err)
	}
	there, err := target.Open(t.Context(), "qemu:"+to.QMP()+"@phys", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer there.Close()
	b := make([]byte, len(text))
	if _, err := there.Memory().ReadAt(t.Context(), b, at); err != nil || string(b) != text {
		t.Errorf("where it is now: %q, %v", b, err)
	}
}

// TestLiveQEMUBare opens a guest that runs no kernel, and one that is just starting one.
func TestLiveQEMUBare(t *testing.T) {
	e := vmlab.StartBare(t, append(vmlab.BareShared(), "-S")...)
	x, err := target.Open(t.Context(), "qemu:"+e.QMP(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	k := x.(*target.Kernel)
	if _, err := k.Tables(t.Context()); !errors.Is(err, remora.ErrNoTable) {
		t.Errorf("tables of no kernel: %v", err)
	}
	for task, err := range k.Tasks(t.Context()) {
		if err == nil {
			t.Errorf("a task of no kernel: %v", task)
		}
	}
	if _, err := k.Memory().Uint8(t.Context(), 0xffffffff81000000); !errors.Is(err, remora.ErrNoTable) {
		t.Errorf("memory of no kernel: %v", err)
	}
}

// TestLiveQEMUHotplug plugs memory into a machine that is open.
func TestLiveQEMUHotplug(t *testing.T) {
	e := vmlab.StartBare(t, "-S", "-m", "64,slots=2,maxmem=1G")
	x, err := target.Open(t.Context(), "qemu:"+e.QMP()+"@phys", &target.Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	const at = 1 << 32 // where a PC has what is plugged in
	if _, err := x.Memory().Uint8(t.Context(), at); !errors.Is(err, remora.ErrHole) {
		t.Errorf("before: %v", err)
	}
	for _, do := range []struct {
		command string
		args    map[string]any
	}{
		{"object-add", map[string]any{"qom-type": "memory-backend-memfd", "id": "more", "size": 128 << 20, "share": true}},
		{"device_add", map[string]any{"driver": "pc-dimm", "id": "dimm", "memdev": "more"}},
	} {
		if err := e.Execute(t.Context(), do.command, do.args, nil); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for err = remora.ErrHole; errors.Is(err, remora.ErrHole) && ctx.Err() == nil; {
		_, err = x.Memory().WriteAt(t.Context(), []byte("plugged"), at+64<<20)
	}
	b := make([]byte, 7)
	if _, err := x.Memory().ReadAt(t.Context(), b, at+64<<20); err != nil || string(b) != "plugged" {
		t.Errorf("plugged in: %q, %v", b, err)
	}
}

// testBoot opens another guest again and again while it boots the same kernel: there is a
// clear error, until there are tasks. That guest has no /init, and stands still in the end.
func (g *liveQEMU) testBoot(t *testing.T) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", g.PID())) // of QEMU, here
	if err != nil {
		t.Fatal(err)
	}
	_, vmlinuz, _ := strings.Cut(string(line), "-kernel\x00")
	vmlinuz, _, _ = strings.Cut(vmlinuz, "\x00")
	e := vmlab.StartBare(t, "-m", "256", "-cpu", "max,-cx16,la57=off", "-kernel", vmlinuz, "-append", "panic=0")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	seen := map[string]int{}
	for {
		began := time.Now()
		err := countTasks(ctx, "qemu:"+e.QMP())
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("an attempt took %v", took)
		}
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("no tasks in the end: %v", err)
		}
		seen[strings.SplitAfter(err.Error(), ":")[0]]++
	}
	t.Logf("while it booted: %v", seen)
}

// countTasks gives an error where a kernel does not have a few tasks.
func countTasks(ctx context.Context, spec string) error {
	x, err := target.Open(ctx, spec, nil)
	if err != nil {
		return err
	}
	defer x.Close()
	n := 0
	for _, err := range x.(*target.Kernel).Tasks(ctx) {
		if err != nil {
			return err
		}
		n++
	}
	if n < 5 {
		return fmt.Errorf("%d tasks", n)
	}
	return nil
}
