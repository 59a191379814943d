// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/remora-go/remora/internal/testneed"
)

// DrgnPython gives a Python that has drgn, or "".
func DrgnPython() string {
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(p, "-c", "import drgn").Run() == nil {
			return p
		}
	}
	return ""
}

// debugFile matches the kernel in a package of debugging information: before 7.1 it was
// not in the directory of its modules.
var debugFile = regexp.MustCompile(`^\./usr/lib/debug/(boot/vmlinux-|lib/modules/[^/]+/vmlinux$)`)

// Debug gives the path of the lab's kernel with its debugging information, as crash and
// drgn want it, out of the package that ends in -dbg: 0.3 GB to fetch, and 0.6 GB on
// disk. It is the one of exactly the kernel that was booted.
func (l *Lab) Debug() string {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	// NAME_VERSION_ARCH.deb, as apt names the files it fetches.
	words := strings.SplitN(l.About.Packages[0], "_", 3)
	if len(words) != 3 {
		l.t.Fatalf("vmlab: no package %q", l.About.Packages[0])
	}
	name := strings.Replace(words[0], "linux-binary-", "linux-image-", 1) + "-dbg"
	version := strings.ReplaceAll(words[1], "%3a", ":")
	dir, err := l.cache.entry(fmt.Sprintf("kernels/%s_%s", name, words[1]), func(dir string) error {
		return l.fetchDebug(ctx, name, version, dir)
	})
	if err != nil {
		testneed.Lacks(l.t, fmt.Sprintf("vmlab: %s: %v", name, err))
	}
	return dir + "/vmlinux"
}

// fetchDebug puts the kernel of a package into dir.
func (l *Lab) fetchDebug(ctx context.Context, name, version, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(l.cache.dir, "fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	var errs []error
	for _, suite := range l.recipe.kernel.Suites {
		a, err := newApt(ctx, work+"/apt-"+suite, suite, l.recipe.kernel.Arch, l.t.Logf)
		if err == nil {
			var deb string
			if deb, err = a.download(ctx, work, name, version); err == nil {
				return unpackDebug(ctx, deb, dir+"/vmlinux")
			}
		}
		errs = append(errs, fmt.Errorf("%s: %w", suite, err))
	}
	return errors.Join(errs...)
}

// unpackDebug takes the kernel out of a package.
func unpackDebug(ctx context.Context, deb, to string) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() { io.Copy(io.Discard, out); cmd.Wait() }()
	for in := tar.NewReader(out); ; {
		h, err := in.Next()
		if err != nil {
			return fmt.Errorf("no kernel in the package: %w", err)
		}
		if h.Typeflag == tar.TypeReg && debugFile.MatchString(h.Name) {
			f, err := os.Create(to)
			if err != nil {
				return err
			}
			_, err = io.Copy(f, in)
			return errors.Join(err, f.Close())
		}
	}
}
