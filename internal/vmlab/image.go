// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/remora-go/remora/internal/testneed"
)

// Format names an image of a moment.
type Format string

// What QEMU writes. Its kdump images are flattened. Not every QEMU has each codec.
const (
	ELF         Format = "elf"
	ELFPaging   Format = "elf-paging" // of amd64, with at most 1 GiB of memory
	KdumpZlib   Format = "kdump-zlib"
	KdumpLZO    Format = "kdump-lzo"    // with at most 1 GiB
	KdumpSnappy Format = "kdump-snappy" // the same
)

// RAM is the file that was the guest's memory: About.RAM says where what is in it.
const RAM Format = "ram"

// Swap is the guest's swap disk, as it was.
const Swap Format = "swap"

// procVmcore is what the kernel after a crash had as /proc/vmcore.
const procVmcore Format = "proc-vmcore"

// Has says whether there is such an image of QEMU's.
func (l *Lab) Has(f Format) bool { return exists(filepath.Join(l.Dir, string(f))) }

// Dump gives the path of an image, which is made now if it is one of makedumpfile's.
// Nobody may write to it. Of a split one it is the first part: see Parts.
func (l *Lab) Dump(f Format) string {
	l.t.Helper()
	return l.Parts(f)[0]
}

// Parts gives the paths of all parts of an image, in order: there is one, but of a split
// image there are three.
func (l *Lab) Parts(f Format) []string {
	l.t.Helper()
	if f == Vmcore && l.Has(procVmcore) {
		f = procVmcore
	}
	if f != Vmcore && !strings.HasPrefix(string(f), "makedumpfile-") {
		return []string{filepath.Join(l.Dir, string(f))}
	}
	dir := l.derived(f)
	if !strings.Contains(string(f), "-split-") {
		return []string{dir + "/dump"}
	}
	var all []string
	for i := range splitParts {
		all = append(all, fmt.Sprintf("%s/dump.%d", dir, i+1))
	}
	return all
}

// Report gives what makedumpfile printed: how many pages it left out, and why.
func (l *Lab) Report(f Format) string {
	l.t.Helper()
	b, err := os.ReadFile(l.derived(f) + "/report")
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

// derived gives the directory of an image that is made of QEMU's.
func (l *Lab) derived(f Format) string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	defer cancel()
	name, err := filepath.Rel(l.cache.dir, filepath.Join(l.Dir, string(f)))
	if err != nil {
		l.t.Fatal(err)
	}
	dir, err := l.cache.entry(name, func(dir string) error {
		if f != Vmcore {
			if _, err := exec.LookPath("makedumpfile"); err != nil {
				testneed.Lacks(l.t, "vmlab: needs the program makedumpfile")
			}
			return makedumpfile(ctx, f, l.Dump(Vmcore), dir)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := asVmcore(l.Dump(ELF), dir+"/dump", l.Truth()); err != nil {
			return err
		}
		return dig(ctx, dir+"/dump")
	})
	if err != nil {
		l.t.Fatalf("vmlab: %s: %s: %v", l.Machine, f, err)
	}
	return dir
}

// Truth gives what the guest said of itself.
func (l *Lab) Truth() *Truth {
	l.t.Helper()
	if l.truth == nil {
		var err error
		if l.truth, err = readTruth(l.Dir + "/truth.tar"); err != nil {
			l.t.Fatal(err)
		}
	}
	return l.truth
}

// Translations gives what QEMU made of 10,000 addresses: those of the kernel's half on
// the processor About.KernelCPU, the others on About.CPU.
func (l *Lab) Translations() []Translation {
	l.t.Helper()
	all, err := readTranslations(l.Dir + "/gva2gpa")
	if err != nil {
		l.t.Fatal(err)
	}
	return all
}
