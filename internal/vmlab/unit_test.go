// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestKernelTable(t *testing.T) {
	names := map[string]bool{}
	for _, k := range Kernels() {
		if names[k.Name] || !strings.HasPrefix(k.Name, k.Arch+"-") {
			t.Errorf("the name %s", k.Name)
		}
		names[k.Name] = true
		if !regexp.MustCompile("^(" + k.Series + ")$").MatchString(k.ABI) {
			t.Errorf("%s: %s is not of the series %s", k.Name, k.ABI, k.Series)
		}
		for _, p := range k.Packages {
			if !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(p.SHA256) || strings.Count(p.Name, "*") != 1 {
				t.Errorf("%s: package %+v", k.Name, p)
			}
		}
		if got, err := KernelNamed(k.Name); err != nil || got.Name != k.Name {
			t.Errorf("%s: %v", k.Name, err)
		}
	}
	if _, err := KernelNamed("amd64-2.4"); err == nil {
		t.Error("a kernel that is not there was found")
	}
	for _, m := range Machines() {
		if !names[m.Kernel] {
			t.Errorf("%s is of no kernel", m)
		}
	}
}

func TestNewer(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"6.1.0-50", "6.1.0-9", true}, {"6.1.0-9", "6.1.0-50", false}, {"6.12.95+deb12", "6.12.95+deb12", false},
		{"6.12.90+deb12.1", "6.12.90+deb12", true}, {"7.2.13+deb14", "7.2.9+deb14", true}, {"7.2.009", "7.2.10", false},
	} {
		if got := newer(c.a, c.b); got != c.want {
			t.Errorf("newer(%s, %s) is %v", c.a, c.b, got)
		}
	}
}

func TestMachineNames(t *testing.T) {
	seen := map[string]bool{}
	for _, m := range []Machine{
		{Kernel: "k"}, {Kernel: "k", MiB: 512}, {Kernel: "k", FiveLevels: true}, {Kernel: "k", NoKASLR: true},
		{Kernel: "k", NoVMCOREINFO: true}, {Kernel: "k", CPU: "max,a=b"}, {Kernel: "k", Options: "a=b c/d"},
	} {
		s := m.String()
		if seen[s] || strings.ContainsAny(s, " /,") {
			t.Errorf("%+v is called %q", m, s)
		}
		seen[s] = true
	}
}

func TestSegments(t *testing.T) {
	const view = `FlatView #0
 AS "I/O", root: io
 Root memory region: io
  0000000000000000-0000000000000007 (prio 0, i/o): dma-chan

FlatView #1
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): ram KVM
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000cafff (prio 0, rom): ram @00000000000c0000
  0000000000100000-00000000bfffffff (prio 0, ram): ram @0000000000100000
  00000000fffc0000-00000000ffffffff (prio 0, rom): pc.bios
  0000000100000000-000000013fffffff (prio 0, ram): ram @00000000c0000000

FlatView #2
 AS "virtio", root: system
  0000000000000000-000000000009ffff (prio 0, ram): ram
`
	want := []Segment{{0, 0xa0000, 0}, {0x100000, 0xc000_0000, 0x100000}, {1 << 32, 0x1_4000_0000, 0xc000_0000}}
	got, err := segments(strings.ReplaceAll(view, "\n", "\r\n"))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("segments are %x, %v", got, err)
	}
	about := &About{RAM: want}
	whole := []Segment{{0, 0xa0000, 0}, {0xa0000, 0xc000_0000, 0xa0000}, want[2]}
	if got := about.Memory(); !reflect.DeepEqual(got, whole) {
		t.Errorf("the file has %x", got)
	}
	for _, bad := range []string{"", "FlatView #1\n AS \"memory\"\n  x-y (prio 0, ram): ram",
		"FlatView #1\n AS \"memory\"\n  0-f (prio 0, ram): ram @z"} {
		if got, err := segments(bad); err == nil {
			t.Errorf("%q gave %v", bad, got)
		}
	}
}

func TestProgramCounter(t *testing.T) {
	for text, want := range map[string]uint64{
		"RAX=1 RIP=ffffffff9460dfeb RFL=00000246":               0xffffffff9460dfeb,
		" PC=ffff800008012345 X00=0000":                         0xffff800008012345,
		" V      =   0\n pc       00000000000e6fa0\n mhartid 0": 0xe6fa0,
	} {
		if got, err := programCounter(text); err != nil || got != want {
			t.Errorf("%q gave %x, %v", text, got, err)
		}
	}
	if _, err := programCounter("nothing"); err == nil {
		t.Error("a program counter was found in nothing")
	}
}

func TestInitramfs(t *testing.T) {
	dir := t.TempDir()
	module := filepath.Join(dir, "virtio.ko")
	if err := os.WriteFile(module, []byte("module"), 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := initramfs([]byte("init!"), []string{module}, []carried{{"crash/vmlinuz", modeFile, []byte("v")}, {"crash/initrd", modeFile, nil}})
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for len(all) >= 110 {
		var f [13]uint64
		for i := range f {
			fmt.Sscanf(string(all[6+8*i:14+8*i]), "%x", &f[i])
		}
		size, nameSize := int(f[6]), int(f[11])
		name := string(all[110 : 110+nameSize-1])
		at := (110 + nameSize + 3) &^ 3
		got = append(got, fmt.Sprintf("%s %o %s", name, f[1], all[at:at+size]))
		all = all[(at+size+3)&^3:]
	}
	want := []string{"dev 40755 ", "proc 40755 ", "sys 40755 ", "run 40755 ", "tmp 40755 ", "bin 40755 ", "modules 40755 ", "crash 40755 ",
		"init 100755 init!", "modules/00-virtio.ko 100644 module", "crash/vmlinuz 100644 v", "crash/initrd 100644 ", "TRAILER!!! 0 "}
	if !reflect.DeepEqual(got, want) || len(all) != 0 {
		t.Errorf("the archive has\n%q, want\n%q", got, want)
	}
}

// moduleNamed writes an ELF file with a section .modinfo.
func moduleNamed(t *testing.T, dir, name, modinfo string) {
	t.Helper()
	const names = "\x00.modinfo\x00.shstrtab\x00"
	var b bytes.Buffer
	e := elf.Header64{Type: uint16(elf.ET_REL), Machine: uint16(elf.EM_X86_64), Version: 1, Ehsize: 64, Shentsize: 64,
		Shnum: 3, Shstrndx: 2, Shoff: uint64(64 + len(modinfo) + len(names))}
	copy(e.Ident[:], "\x7fELF\x02\x01\x01")
	sections := []elf.Section64{{},
		{Name: 1, Type: uint32(elf.SHT_PROGBITS), Off: 64, Size: uint64(len(modinfo))},
		{Name: 10, Type: uint32(elf.SHT_STRTAB), Off: uint64(64 + len(modinfo)), Size: uint64(len(names))}}
	binary.Write(&b, binary.LittleEndian, e)
	b.WriteString(modinfo + names)
	binary.Write(&b, binary.LittleEndian, sections)
	if err := os.WriteFile(filepath.Join(dir, name+".ko"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestModules(t *testing.T) {
	dir := t.TempDir()
	moduleNamed(t, dir, "virtio_blk", "license=GPL\x00depends=virtio_ring,virtio\x00name=virtio_blk\x00")
	moduleNamed(t, dir, "virtio-ring", "depends=virtio\x00")
	moduleNamed(t, dir, "virtio", "depends=\x00")
	moduleNamed(t, dir, "unwanted", "depends=virtio\x00")
	files, err := modulesFor(dir) // virtio_pci and qemu_fw_cfg are built in here
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	if want := []string{"virtio.ko", "virtio-ring.ko", "virtio_blk.ko"}; err != nil || !reflect.DeepEqual(files, want) {
		t.Errorf("order %v, %v", files, err)
	}
}

func TestUnwrapImage(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	io.WriteString(w, "the kernel")
	w.Close()
	wrap := func(codec string, size int) []byte {
		b := make([]byte, 64)
		copy(b, "MZ\x00\x00zimg")
		binary.LittleEndian.PutUint32(b[8:], 64)
		binary.LittleEndian.PutUint32(b[12:], uint32(size))
		copy(b[24:], codec)
		return append(b, z.Bytes()...)
	}
	if got, err := unwrapImage(t.Context(), wrap("gzip", z.Len())); err != nil || string(got) != "the kernel" {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := unwrapImage(t.Context(), bytes.Repeat([]byte("MZ"), 99)); got != nil || err != nil {
		t.Errorf("an image that is not wrapped gave %q, %v", got, err)
	}
	for _, bad := range [][]byte{wrap("gzip", z.Len()+1), wrap("unheard", z.Len())} {
		if _, err := unwrapImage(t.Context(), bad); err == nil {
			t.Errorf("%q was unwrapped", bad[:40])
		}
	}
}

func TestUnpackTar(t *testing.T) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range []string{"./boot/vmlinuz-7.0", "./boot/config-7.0", "./etc/passwd",
		"./lib/modules/7.0/kernel/drivers/virtio/virtio.ko", "./lib/modules/7.0/kernel/drivers/net/virtio_net.ko",
		"./usr/lib/modules/7.0/kernel/drivers/block/virtio_blk.ko"} {
		w.WriteHeader(&tar.Header{Name: name, Size: 4, Mode: 0o644})
		io.WriteString(w, "1234")
	}
	w.Close()
	dir := t.TempDir()
	if err := unpackTar(t.Context(), &b, dir); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(dir + "/*")
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	if want := []string{"config", "virtio.ko", "virtio_blk.ko", "vmlinuz"}; !reflect.DeepEqual(files, want) {
		t.Errorf("unpacked %v", files)
	}
}

func TestFormatCommands(t *testing.T) {
	for f, want := range map[Format]string{
		MakedumpfileZlib31: " -d 31 -c", MakedumpfileLZO1: " -d 1 -l", MakedumpfileELF0: " -d 0 -E", MakedumpfilePlain1: " -d 1",
		FlattenedZlib31: "flattened -d 31 -c -F", SplitZlib31: "split -d 31 -c --split --splitblock-size 65536",
		SplitZlib1Empty: "split -d 1 -c --split", CutELF1: "cut -d 1 -E",
	} {
		args, layout := f.command()
		if got := layout + " " + strings.Join(args[2:], " "); got != want {
			t.Errorf("%s is %q, want %q", f, got, want)
		}
	}
}

func TestCacheEntry(t *testing.T) {
	c := cache{t.TempDir()}
	var made sync.Map
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			path, err := c.entry("kind/a", func(path string) error {
				if _, twice := made.LoadOrStore(path, i); twice {
					t.Error("made twice")
				}
				return os.Mkdir(path, 0o755)
			})
			if err != nil || path != c.dir+"/kind/a" || !exists(path) {
				t.Errorf("%q, %v", path, err)
			}
		})
	}
	wg.Wait()
	failure := errors.New("no")
	if _, err := c.entry("kind/b", func(path string) error { os.Mkdir(path, 0o755); return failure }); err != failure {
		t.Errorf("a failure gave %v", err)
	}
	if left, _ := filepath.Glob(c.dir + "/kind/b*"); len(left) != 1 { // its lock
		t.Errorf("a failure left %v", left)
	}
	if err := os.Mkdir(c.dir+"/kind/b.new", 0o755); err != nil { // of one that was killed
		t.Fatal(err)
	}
	if _, err := c.entry("kind/b", func(path string) error { return os.Mkdir(path, 0o755) }); err != nil {
		t.Error(err)
	}
}

func TestPrune(t *testing.T) {
	c := cache{t.TempDir()}
	for i, name := range []string{"old", "older", "held", "young"} {
		path, err := c.entry("kind/"+name, func(path string) error {
			os.Mkdir(path, 0o755)
			return os.WriteFile(path+"/x", bytes.Repeat([]byte("x"), 64<<10), 0o644)
		})
		if err != nil {
			t.Fatal(err)
		}
		used := time.Now().Add(-time.Duration(i+2) * time.Hour)
		if name != "young" {
			os.Chtimes(path, used, used)
		}
	}
	unlock, err := c.lock("kind/held")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	// The oldest is held, so the next ones go until it is small enough.
	if err := c.prune("kind", 150<<10); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(c.dir + "/kind/*/x")
	if want := []string{c.dir + "/kind/held/x", c.dir + "/kind/young/x"}; !reflect.DeepEqual(left, want) {
		t.Errorf("left %v", left)
	}
	if err := c.prune("kind", 0); err != nil || !exists(c.dir+"/kind/young/x") {
		t.Errorf("what was just used went (%v)", err)
	}
}
