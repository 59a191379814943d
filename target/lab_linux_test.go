// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/paging"
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

// The page tables of real kernels are found, and say what the guest and QEMU say.
func TestLabPageTables(t *testing.T) {
	for _, m := range vmlab.Machines() {
		t.Run(m.String(), func(t *testing.T) {
			lab := vmlab.Open(t, m)
			for _, f := range []vmlab.Format{vmlab.ELF, vmlab.KdumpZlib} {
				k := labKernel(t, lab.Dump(f))
				if k.VMCoreInfo() == nil && k.Image.Meta().Machine != elf.EM_X86_64 {
					if _, err := k.Tables(t.Context()); !errors.Is(err, remora.ErrNoTable) {
						t.Errorf("%s: %v without anything to go by", f, err)
					}
				} else {
					labFound(t, lab, k)
				}
				labTranslations(t, lab, k)
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

// labRoot gives the page tables of a processor, where it is known which they are.
func labRoot(t *testing.T, lab *vmlab.Lab, k *Kernel, cpu int) *paging.Tables {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(lab.Dir, fmt.Sprintf("registers.%d", cpu)))
	if err != nil {
		t.Fatal(err)
	}
	register := func(name string) (uint64, bool) {
		m := regexp.MustCompile(name + `[= ]+([0-9a-f]+)`).FindSubmatch(text)
		if m == nil {
			return 0, false
		}
		n, err := strconv.ParseUint(string(m[1]), 16, 64)
		return n, err == nil
	}
	var format *paging.Format
	root, ok := register("CR3")
	if ok {
		cr4, _ := register("CR4")
		format, err = paging.X86(paging.X86Options{Levels: 4 + int(cr4>>12&1)})
	} else if satp, riscv := register("satp"); riscv {
		root, ok = satp&(1<<44-1)<<12, true
		format, err = paging.RISCV(paging.RISCVOptions{VABits: int(39 + 9*(satp>>60-8))})
	}
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		return nil
	}
	return k.TablesAt(format, remora.Addr(root), paging.Whole)
}

// labTranslations holds our walks against QEMU's, which knows nothing of PROT_NONE.
func labTranslations(t *testing.T, lab *vmlab.Lab, k *Kernel) {
	t.Helper()
	same, none, skipped, wrong := 0, 0, 0, 0
	roots := map[int]*paging.Tables{}
	for _, q := range lab.Translations() {
		tables, ok := roots[q.CPU]
		if !ok {
			tables = labRoot(t, lab, k, q.CPU)
			roots[q.CPU] = tables
		}
		va := remora.Addr(q.VA)
		translate := k.Translate
		if tables != nil {
			translate = tables.Translate
		} else if va < 1<<63 {
			skipped++ // the root of the lower half is in no image of arm64
			continue
		}
		e := translate(t.Context(), va)
		switch {
		case (e.Err == nil) == q.Mapped && (!q.Mapped || e.Phys+(va-e.Virt) == remora.Addr(q.PA)):
			same++
		case !q.Mapped && e.Err == nil && e.Perm&(remora.PermRead|remora.PermWrite|remora.PermExec) == 0:
			none++
		default:
			if wrong++; wrong < 10 {
				t.Errorf("%v: %+v, QEMU says %#x, %v", va, e, q.PA, q.Mapped)
			}
		}
	}
	t.Logf("%d addresses as QEMU has them, %d PROT_NONE, %d of a lower half that is not known", same, none, skipped)
	if same == 0 {
		t.Error("nothing was compared")
	}
}

// converted writes an image of another, and opens it.
func converted(t *testing.T, from remora.Target, o *vmcore.WriteOptions) (string, *Kernel) {
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
	return path, labKernel(t, path)
}

// memorySum sums up the memory of a guest as an image has it, with what it lacks.
func memorySum(t *testing.T, m *vmcore.Image) [sha256.Size]byte {
	t.Helper()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for r, err := range m.Runs(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if r.Err != nil {
			continue
		}
		for r.Size > 0 {
			p := buf[:min(r.Size, uint64(len(buf)))]
			if _, err := m.Memory().ReadAt(t.Context(), p, r.Start); err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(h, r.Start)
			h.Write(p)
			r.Start, r.Size = r.Start+remora.Addr(len(p)), r.Size-uint64(len(p))
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// An image of a real kernel is the same when it has gone through other formats, and
// other tools open it: also where they cannot open what QEMU writes.
func TestLabConversions(t *testing.T) {
	for _, m := range vmlab.Machines() {
		t.Run(m.String(), func(t *testing.T) {
			lab := vmlab.Open(t, m)
			src := labKernel(t, lab.Dump(vmlab.ELF))
			want := memorySum(t, src.Image)
			packed, kdump := converted(t, src, &vmcore.WriteOptions{To: vmcore.Kdump, Codec: vmcore.Zstd, Level: 1})
			back, again := converted(t, kdump, &vmcore.WriteOptions{To: vmcore.ELF})
			for _, k := range []*Kernel{kdump, again} {
				if memorySum(t, k.Image) != want {
					t.Errorf("%s: memory differs", k.Info().Name)
				}
				if err := k.Image.Check(t.Context(), func(e *remora.FormatError) { t.Error(e) }); err != nil {
					t.Error(err)
				}
				if a, b := src.Image.Meta(), k.Image.Meta(); !bytes.Equal(a.VMCoreInfo, b.VMCoreInfo) || len(a.CPUs) != len(b.CPUs) || len(a.Notes) != len(b.Notes) {
					t.Errorf("%s: %d notes and %d processors, want %d and %d", k.Info().Name, len(b.Notes), len(b.CPUs), len(a.Notes), len(a.CPUs))
				}
			}
			if src.VMCoreInfo() == nil || src.Image.Meta().Machine == elf.EM_RISCV {
				return // drgn does not walk its page tables
			}
			drgnReads(t, src, packed, back)
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
