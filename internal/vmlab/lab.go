// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora/internal/testneed"
)

// recipeVersion is to be raised when what makes a moment changes.
const recipeVersion = 1

// Lab is a moment of a machine: everything in it was made of one stop.
type Lab struct {
	Machine Machine
	About   About
	Dir     string // of the moment's files

	t       testing.TB
	program string // the guest's /init
	cache   cache
	recipe  recipe
	truth   *Truth
}

// About is what a moment says of itself.
type About struct {
	Machine   Machine
	Packages  []string  // the files that the kernel came in
	QEMU      string    // its version
	RAM       []Segment // physical memory, and where it is in the file "ram"
	CPU       int       // the processor that was in user mode in the witness of role main
	KernelCPU int       // one that was in kernel mode
	Tries     int       // stops that it took to find it so
}

// Open gives the moment of a machine, from the cache or made now. It skips the test, or
// fails it under REMORA_REQUIRE, where QEMU or the kernel cannot be had; it fails the
// test where they can but something goes wrong.
func Open(t testing.TB, m Machine) *Lab {
	t.Helper()
	return open(t, m, "moment", func(ctx context.Context, r *recipe, dir string) error {
		return r.makeMoment(ctx, dir)
	})
}

// open gives an entry of the cache, made now if need be.
func open(t testing.TB, m Machine, kind string, make func(context.Context, *recipe, string) error) *Lab {
	t.Helper()
	l := &Lab{Machine: m, t: t, program: "internal/vmlab/guest"}
	l.prepare()
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	defer cancel()
	name := fmt.Sprintf("moments/%s-%s-%s", kind, m, l.recipe.key())
	dir, err := l.cache.entry(name, func(dir string) error { return make(ctx, &l.recipe, dir) })
	if err != nil {
		t.Fatalf("vmlab: %s: %v", m, err)
	}
	l.Dir = dir
	l.cache.prune("moments", maxCache)
	b, err := os.ReadFile(dir + "/about.json")
	if err == nil {
		err = json.Unmarshal(b, &l.About)
	}
	if err != nil {
		t.Fatalf("vmlab: %s: %v", m, err)
	}
	return l
}

// Live boots a guest of the same sort and gives it stopped in its witness. It ends with
// the test. Its moment is another than the lab's.
func (l *Lab) Live(t testing.TB) *Live {
	t.Helper()
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(context.Background(), bootTime)
	live, err := l.recipe.standing(ctx, dir)
	if err != nil {
		cancel()
		t.Fatalf("vmlab: %s: %v", l.Machine, err)
	}
	t.Cleanup(func() { live.Close(); cancel() })
	return live
}

// prepare finds the cache, the tools, the kernel, and builds the guest's program.
func (l *Lab) prepare() {
	l.t.Helper()
	k, err := KernelNamed(l.Machine.Kernel)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, tool := range []string{emulator(k.Arch), "apt-get", "apt-cache", "dpkg-deb", "xz"} {
		if _, err := exec.LookPath(tool); err != nil {
			testneed.Lacks(l.t, "vmlab: needs the program "+tool)
		}
	}
	if l.cache, err = openCache(); err != nil {
		l.t.Fatalf("vmlab: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	l.recipe = recipe{machine: l.Machine, kernel: k, log: l.t.Logf}
	if l.recipe.dir, err = l.cache.kernel(ctx, k, l.t.Logf); err != nil {
		testneed.Lacks(l.t, err.Error())
	}
	if l.recipe.modules, err = modulesFor(l.recipe.dir); err == nil {
		l.recipe.init, err = build(ctx, k.Arch, "build", l.program)
	}
	if err != nil {
		l.t.Fatalf("vmlab: %v", err)
	}
}

// kernel gives the directory of a kernel: what unpackKernel takes out of its packages,
// and a file "packages" with their sums and names.
func (c cache) kernel(ctx context.Context, k Kernel, log func(string, ...any)) (string, error) {
	pins := sha256.New()
	for _, p := range k.Packages {
		fmt.Fprintln(pins, k.ABI, p.Name, p.SHA256)
	}
	name := fmt.Sprintf("kernels/%s-%x", k.Name, pins.Sum(nil)[:6])
	return c.entry(name, func(dir string) error {
		work := filepath.Join(dir, "fetch")
		if err := os.MkdirAll(work, 0o755); err != nil {
			return err
		}
		defer os.RemoveAll(work)
		debs, err := fetchPackages(ctx, k, work, log)
		if err != nil {
			return err
		}
		var names strings.Builder
		for _, d := range debs {
			sum, err := fileSum(d)
			if err != nil {
				return err
			}
			fmt.Fprintln(&names, sum, filepath.Base(d))
		}
		if err := os.WriteFile(dir+"/packages", []byte(names.String()), 0o644); err != nil {
			return err
		}
		return unpackKernel(ctx, debs, dir)
	})
}

// build compiles a package of this module for a guest: verb is "build", or "test -c".
func build(ctx context.Context, arch, verb, pkg string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "remora-guest-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	args := append(strings.Fields(verb), "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=",
		"-o", dir+"/program", "github.com/remora-go/remora/"+pkg)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go %s of %s: %w\n%s", verb, pkg, err, out)
	}
	return os.ReadFile(dir + "/program")
}

// key is a hash of all that a moment is made of.
func (r *recipe) key() string {
	h := sha256.New()
	packages, _ := os.ReadFile(r.dir + "/packages")
	emulated, _ := exec.Command(emulator(r.kernel.Arch), "--version").Output()
	fmt.Fprintf(h, "%d\n%s\n%s\n", recipeVersion, packages, emulated)
	fmt.Fprintln(h, r.machine.arguments(r.kernel.Arch, "", "", nil), r.machine.commandLine(r.kernel.Arch, ""))
	h.Write(r.init)
	return hex.EncodeToString(h.Sum(nil)[:8])
}
