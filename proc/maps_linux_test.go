// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora"
)

// mapFile maps one page of a new file of that name into this process.
func mapFile(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(4096); err != nil {
		t.Fatal(err)
	}
	b, err := syscall.Mmap(int(f.Fd()), 0, 4096, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(b) })
}

func TestParseMapsOfThisProcessDecodesNames(t *testing.T) {
	dir := t.TempDir()
	want := map[string]bool{} // name: deleted
	for name, deleted := range map[string]bool{
		"plain": false, "two  spaces ": false, "new\nline": false, `back\slash\011`: false,
		"gone": true, "gone (deleted)": true, "new\nline gone": true, strings.Repeat("long", 60): false,
	} {
		path := filepath.Join(dir, name)
		mapFile(t, path)
		if deleted {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		}
		want[path] = deleted
	}
	f, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := map[string]bool{}
	for r, err := range ParseMaps(f) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(r.Name, dir) {
			got[r.Name] = r.Deleted
			if !r.Shared || r.Size != 4096 || r.Inode == 0 {
				t.Errorf("unexpected region %+v", r)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// awkMaps is an independent parser: fields by awk, numbers by Sscanf.
func awkMaps(t *testing.T, text string) []remora.Region {
	t.Helper()
	cmd := exec.Command("awk", `{ n = $0; for (i = 1; i <= 5; i++) sub(/^[^ ]+ +/, "", n); if (NF < 6) n = "";
		split($1, a, "-"); split($4, d, ":"); print a[1], a[2], $2, $3, d[1], d[2], $5, "|" n }`)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var list []remora.Region
	for _, l := range strings.Split(strings.TrimSuffix(string(out), "\n"), "\n") {
		head, name, _ := strings.Cut(l, "|")
		var r remora.Region
		var end uint64
		var perm string
		if _, err := fmt.Sscanf(head, "%x %x %s %x %x %x %d", &r.Start, &end, &perm, &r.Offset, &r.Major, &r.Minor, &r.Inode); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		r.Size = end - uint64(r.Start)
		for i, c := range []string{"r", "w", "x"} {
			if strings.Contains(perm, c) {
				r.Perm |= 1 << i
			}
		}
		r.Shared = strings.HasSuffix(perm, "s")
		r.Name, r.Deleted = strings.CutSuffix(strings.ReplaceAll(name, `\012`, "\n"), " (deleted)")
		list = append(list, r)
	}
	return list
}

func TestParseMapsAgreesWithAwk(t *testing.T) {
	mapFile(t, filepath.Join(t.TempDir(), "with a\nnewline"))
	text, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	got, err := all(ParseMaps(strings.NewReader(string(text))))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(awkMaps(t, string(text)), got); diff != "" {
		t.Errorf("-awk +ours:\n%s", diff)
	}
	var back strings.Builder
	for _, r := range got {
		back.WriteString(line(r))
	}
	if diff := cmp.Diff(string(text), back.String()); diff != "" {
		t.Errorf("printed again: -kernel +ours:\n%s", diff)
	}
}

// TestParseSmapsOfThisProcess holds the sums of our parse against the kernel's own.
func TestParseSmapsOfThisProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	dir := fmt.Sprintf("/proc/%d/", cmd.Process.Pid)
	read := func(name string) []Usage {
		f, err := os.Open(dir + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		list, err := all(ParseSmaps(f))
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: %d regions, %v", name, len(list), err)
		}
		return list
	}
	var rollup, usage []Usage
	for again := true; again; { // until it sleeps, its memory still changes
		rollup, usage = read("smaps_rollup"), read("smaps")
		again = !cmp.Equal(rollup, read("smaps_rollup"))
	}
	var sum Usage
	for _, u := range usage {
		sum.Rss += u.Rss
		sum.Anonymous += u.Anonymous
		sum.PrivateDirty += u.PrivateDirty
		if u.PageSize == 0 || u.VmFlags == 0 || u.VmFlags&VmOther != 0 {
			t.Errorf("%s %v: page size %d, flags %q", u.Name, u.Range, u.PageSize, u.VmFlags)
		}
		if (u.Perm&remora.PermRead != 0) != (u.VmFlags&VmRead != 0) {
			t.Errorf("%s: permissions %v, flags %q", u.Name, u.Perm, u.VmFlags)
		}
		switch u.Name {
		case "[stack]":
			if u.VmFlags&VmGrowsDown == 0 {
				t.Errorf("stack flags %q", u.VmFlags)
			}
		case "[vvar]":
			if u.VmFlags&(VmPFNMap|VmIO|VmMixedMap) == 0 {
				t.Errorf("vvar flags %q", u.VmFlags)
			}
		}
	}
	if len(rollup) != 1 || rollup[0].Name != "[rollup]" {
		t.Fatalf("smaps_rollup: %+v", rollup)
	}
	if r := rollup[0]; r.Rss != sum.Rss || r.Anonymous != sum.Anonymous || r.PrivateDirty != sum.PrivateDirty || sum.Rss == 0 {
		t.Errorf("sums %+v, rollup %+v", sum, r)
	}
}
