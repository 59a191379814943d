// SPDX-License-Identifier: Apache-2.0

package target

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/vmcore"
)

// labKernel opens an image of a moment.
func labKernel(t *testing.T, path string) *Kernel {
	t.Helper()
	tgt, err := Open(t.Context(), path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	k, ok := tgt.(*Kernel)
	if !ok {
		t.Fatalf("%s: got a %T", path, tgt)
	}
	return k
}

// The page tables of real kernels are found, and lead to what the guest said of itself.
func TestLabKernels(t *testing.T) {
	for _, m := range vmlab.Machines() {
		t.Run(m.String(), func(t *testing.T) {
			lab := vmlab.Open(t, m)
			for _, f := range []vmlab.Format{vmlab.ELF, vmlab.KdumpZlib} {
				k := labKernel(t, lab.Dump(f))
				if k.VMCoreInfo() != nil || k.Image.Meta().Machine == elf.EM_X86_64 {
					labFound(t, lab, k)
				} else if _, err := k.Tables(t.Context()); !errors.Is(err, remora.ErrNoTable) {
					t.Errorf("%s: %v without anything to go by", f, err)
				}
			}
		})
	}
}

// labFound holds what was found out about a kernel against what it said of itself.
func labFound(t *testing.T, lab *vmlab.Lab, k *Kernel) {
	t.Helper()
	found, err := k.Tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v, root %v: %s", found.Format, found.Root, found.How)
	truth := lab.Truth()
	want := truth.VMCOREINFO()["OSRELEASE"]
	for _, s := range truth.Symbols() {
		if s.Name != "linux_banner" || s.Module != "" || s.Addr == 0 {
			continue
		}
		if banner, err := k.Memory().CString(t.Context(), remora.Addr(s.Addr), 1000); err != nil || !strings.Contains(banner, want) {
			t.Errorf("the banner is %q, %v; the release %q", banner, err, want)
		}
	}
	l, err := k.Layout(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if k.VMCoreInfo() == nil {
		return
	}
	first := lab.About.RAM[len(lab.About.RAM)-1].Start
	if va, ok := truth.DirectMap(first); !ok || !l.Direct || uint64(l.DirectBase)+first != va {
		t.Errorf("%#x is mapped at %#x, by /proc/kcore at %#x", first, uint64(l.DirectBase)+first, va)
	}
	if names, err := k.Uname(t.Context()); err != nil || names[0] != "Linux" || names[2] != k.VMCoreInfo().Release() {
		t.Errorf("%q, %v", names, err)
	}
}

// converted writes an image of another.
func converted(t *testing.T, from remora.Target, o *vmcore.WriteOptions) string {
	t.Helper()
	c, err := Content(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), string(o.To)+string(o.Codec))
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	o.Fresh = true
	done, err := vmcore.Write(t.Context(), f, c, o)
	if err != nil || done.Lost+done.Partial > 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	return path
}

// Other tools open what is written of real kernels: also where they refuse what QEMU
// wrote, which does not tell where the kernel has its memory.
func TestLabDrgn(t *testing.T) {
	for _, m := range vmlab.Machines() {
		t.Run(m.String(), func(t *testing.T) {
			lab := vmlab.Open(t, m)
			src := labKernel(t, lab.Dump(vmlab.ELF))
			if src.VMCoreInfo() == nil || src.Image.Meta().Machine == elf.EM_RISCV || m.MiB > 1<<10 {
				return // drgn needs the one, and knows no page tables of the other
			}
			packed := converted(t, src, &vmcore.WriteOptions{To: vmcore.Kdump, Codec: vmcore.Snappy})
			drgnReads(t, src, packed, converted(t, src, &vmcore.WriteOptions{To: vmcore.ELF}))
		})
	}
}

// drgnReads has drgn read the kernel's names, by its own walk of the page tables.
func drgnReads(t *testing.T, k *Kernel, paths ...string) {
	t.Helper()
	const python = "/usr/bin/python3" // the one that Debian's packages are for
	if exec.Command(python, "-c", "import drgn").Run() != nil {
		if os.Getenv("REMORA_IMAGES") == "all" {
			testneed.Lacks(t, "drgn is not there")
		}
		return
	}
	at, _ := k.VMCoreInfo().Symbol("init_uts_ns")
	want := make([]byte, 256)
	if _, err := k.Memory().ReadAt(t.Context(), want, at); err != nil {
		t.Fatal(err)
	}
	const script = "import drgn, sys\np = drgn.Program()\np.set_core_dump(sys.argv[1])\nprint(p.read(int(sys.argv[2], 0), 256).hex())"
	for _, path := range paths {
		out, err := exec.CommandContext(t.Context(), python, "-c", script, path, at.String()).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != fmt.Sprintf("%x", want) {
			t.Errorf("%s: drgn: %v, %s", filepath.Base(path), err, out)
		}
	}
}
