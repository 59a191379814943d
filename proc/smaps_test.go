// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
)

const kB = 1024

func TestParseSmaps(t *testing.T) {
	region := func(start, size uint64, p remora.Perm, major, minor uint32, inode uint64, name string) remora.Region {
		return remora.Region{Range: remora.Range{Start: remora.Addr(start), Size: size}, Perm: p, Major: major, Minor: minor, Inode: inode, Name: name}
	}
	const r, w, x = remora.PermRead, remora.PermWrite, remora.PermExec
	want := map[string][]Usage{
		"linux-6.18": {{
			Region:   region(0x55f530c56000, 0x2000, r, 254, 0, 247278, "/usr/bin/head"),
			PageSize: 4 * kB, MMUPageSize: 4 * kB,
			Rss: 8 * kB, Pss: 7 * kB, PssDirty: 1 * kB,
			SharedClean: 2 * kB, SharedDirty: 3 * kB, PrivateClean: 4 * kB, PrivateDirty: 5 * kB,
			Referenced: 6 * kB, Anonymous: 9 * kB, KSM: 10 * kB, LazyFree: 11 * kB,
			AnonHugePages: 2048 * kB, ShmemHugePages: 12 * kB, FileHugePages: 13 * kB,
			SharedHugetlb: 14 * kB, PrivateHugetlb: 15 * kB, Swap: 16 * kB, SwapPss: 17 * kB, Locked: 18 * kB,
			VmFlags: VmRead | VmMayRead | VmMayWrite | VmMayExec | VmDontDump | VmSoftDirty,
		}, {
			Region:  region(0x7ffecafd0000, 0x21000, r|w, 0, 0, 0, "[stack]"),
			Rss:     20 * kB,
			VmFlags: VmRead | VmWrite | VmMayRead | VmMayWrite | VmMayExec | VmGrowsDown | VmAccount,
		}},
		"linux-2.6.14": {{
			Region: region(0x8048000, 0x74000, r|x, 3, 2, 13130, "/bin/bash"),
			Rss:    892 * kB, SharedClean: 892 * kB,
		}},
		"future": {{
			Region:  region(0x10000, 0x1000, r|w, 0, 0, 0, ""),
			Rss:     4 * kB,
			VmFlags: VmRead | VmMaybeGuard | VmOther,
		}},
	}
	for name, text := range texts(t, "smaps.txtar", ".smaps") {
		t.Run(name, func(t *testing.T) {
			got, err := all(ParseSmaps(iotest.HalfReader(strings.NewReader(text))))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want[name], got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestParseSmapsRefusesMalformedText(t *testing.T) {
	const head = "00010000-00011000 rw-p 00000000 00:00 0 \n"
	for _, c := range []struct {
		name, text string
		offset     int64
		want       string
	}{
		{"a field before any region", "Rss: 4 kB\n", 0, "a hexadecimal number"},
		{"no colon", head + "Rss 4 kB\n", int64(len(head)), "a field name and a colon"},
		{"no number", head + "Rss:   x kB\n", int64(len(head)) + 7, "a decimal number"},
		{"no unit", head + "Rss:   4\n", int64(len(head)) + 8, "the unit kB"},
		{"another unit", head + "Rss:   4 MB\n", int64(len(head)) + 8, "the unit kB"},
		{"too many bytes", head + "Rss: 18014398509481984 kB\n", int64(len(head)) + 5, "an amount below 2^64 bytes"},
		{"a bad second region", head + "Rss: 4 kB\nzz\n", int64(len(head)) + 10, "a hexadecimal number"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := all(ParseSmaps(strings.NewReader(c.text)))
			var f *remora.FormatError
			if !errors.As(err, &f) {
				t.Fatalf("error %v, want a *FormatError", err)
			}
			if f.File != "smaps" || f.Offset != c.offset || f.Want != c.want {
				t.Errorf("got %v, want offset 0x%x: want %s", f, c.offset, c.want)
			}
		})
	}
}

func TestVmFlagsHaveOneNameEach(t *testing.T) {
	seen := map[string]bool{}
	for f := VmFlags(1); f < vmFlagsEnd; f <<= 1 {
		name := f.String()
		if len(name) != 2 || seen[name] {
			t.Errorf("flag %#x is called %q", uint64(f), name)
		}
		seen[name] = true
		if got := vmFlag([]byte(name)); got != f {
			t.Errorf("%q parses as %#x, want %#x", name, uint64(got), uint64(f))
		}
	}
	if 2*len(seen) != len(vmNames) {
		t.Errorf("%d flags, %d letters", len(seen), len(vmNames))
	}
	for f, name := range map[VmFlags]string{VmGrowsDown: "gd", VmIO: "io", VmHugetlb: "ht", VmUffdMissing: "um", VmSealed: "sl", VmDroppable: "dp", VmOther: "??"} {
		if f.String() != name {
			t.Errorf("%#x is called %q, want %q", uint64(f), f, name)
		}
	}
}
