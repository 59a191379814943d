// SPDX-License-Identifier: Apache-2.0

package target_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

// TestLiveDump writes images of a guest that is paused: they have the tasks, the registers
// and the memory that the guest has, and open in drgn and in crash.
func TestLiveDump(t *testing.T) {
	for _, m := range vmlab.Guests() {
		t.Run(m.String(), func(t *testing.T) { testLiveDump(t, m) })
	}
}

func testLiveDump(t *testing.T, m vmlab.Machine) {
	g := vmlab.StartAgent(t, m, nil)
	tgt, err := target.Open(t.Context(), "qemu:"+g.QMP(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	pauser, ok := remora.As[remora.Pauser](tgt)
	if !ok {
		t.Fatal("a guest that cannot be paused")
	}
	resume, err := pauser.Pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := resume(); err != nil {
			t.Error(err)
		}
	}()
	live := tgt.(*target.Kernel)
	var want answers
	want.tasks(t, live.Kernel)
	files := map[string]string{}
	for name, o := range map[string]vmcore.WriteOptions{"elf": asELF, "kdump": asZlib} {
		files[name] = imageFrom(t, tgt, o)
		t.Run(name, func(t *testing.T) { sameAsLive(t, live, want, files[name]) })
	}
	if everything() {
		testLivePeers(t, m, live.Kernel, files["elf"])
	}
}

// sameAsLive holds an image against the guest that it was made of.
func sameAsLive(t *testing.T, live *target.Kernel, want answers, file string) {
	opened, err := target.Open(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	k := opened.(*target.Kernel)
	var got answers
	got.tasks(t, k.Kernel)
	if !slices.Equal(got, want) || len(got) < 30 {
		t.Errorf("the image has %d tasks, the guest %d:\n%s", len(got), len(want), linesApart(strings.Join(want, "\n"), strings.Join(got, "\n")))
	}
	img := k.Phys.(*vmcore.Image)
	if cpus := img.Meta().CPUs; len(cpus) == 0 {
		t.Error("the image has no registers")
	}
	if info := img.Meta().VMCoreInfo; len(info) == 0 {
		t.Error("the image has no VMCOREINFO")
	}
	mapper, _ := remora.As[remora.Mapper](live.Phys)
	var total uint64
	for r, err := range mapper.Regions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		sameRange(t, live.Phys.Memory(), img.Memory(), r.Range)
		total += r.Size
	}
	if total < vmlab.DefaultMiB<<20-1<<20 {
		t.Errorf("the guest has %d bytes of memory", total)
	}
}

// sameRange wants the same bytes of two memories.
func sameRange(t *testing.T, a, b *remora.Memory, r remora.Range) {
	t.Helper()
	one, other := make([]byte, 1<<20), make([]byte, 1<<20)
	for off := uint64(0); off < r.Size; off += uint64(len(one)) {
		n := min(uint64(len(one)), r.Size-off)
		at := r.Start + remora.Addr(off)
		if _, err := a.ReadAt(t.Context(), one[:n], at); err != nil {
			t.Fatal(err)
		}
		if _, err := b.ReadAt(t.Context(), other[:n], at); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(one[:n], other[:n]) {
			t.Errorf("the bytes from %#x on differ", uint64(at))
		}
	}
}

// testLivePeers has drgn and crash open the image where they know the kernel.
func testLivePeers(t *testing.T, m vmlab.Machine, k *kernel.Kernel, file string) {
	i := slices.IndexFunc(peers(), func(p peer) bool { return p.kernel.Kernel == m.Kernel })
	who, lab := peers()[i], openMoment(t, peers()[i].kernel)
	names := uniqueNames(t, k, 400)
	drgnAgrees(t, k, openProcess(t, k, 1, nil), remora.Range{}, file, lab.Debug(), names)
	if who.crash == "" {
		lab.testPeerCrash(t, k, file, names)
	}
}
