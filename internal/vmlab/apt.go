// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// apt is a configuration of apt's of our own: one suite, one architecture, and a
// state that the system's own apt never sees.
type apt struct {
	dir  string
	arch string
	log  func(format string, args ...any)
}

// keyring is Debian's, from the package debian-archive-keyring.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// newApt writes a configuration into dir, and fetches the suite's index.
func newApt(ctx context.Context, dir, suite, arch string, log func(string, ...any)) (*apt, error) {
	mirror, err := systemMirror(ctx)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	source := fmt.Sprintf("Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nArchitectures: %s\n", mirror, suite, arch)
	if _, err := os.Stat(keyring); err == nil {
		source += "Signed-By: " + keyring + "\n"
	}
	conf := fmt.Sprintf(`Dir::State %q;
Dir::State::status "/dev/null";
Dir::Cache %q;
Dir::Etc::sourcelist %q;
Dir::Etc::sourceparts "-";
APT::Architecture %q;
APT::Architectures { %q; };
APT::Sandbox::User "root";
Acquire::Retries "3";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
`, dir+"/state", dir+"/cache", dir+"/lab.sources", arch, arch)
	if err := os.WriteFile(dir+"/lab.sources", []byte(source), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(dir+"/apt.conf", []byte(conf), 0o644); err != nil {
		return nil, err
	}
	a := &apt{dir: dir, arch: arch, log: log}
	if _, err := a.run(ctx, dir, "apt-get", "update", "-q"); err != nil {
		return nil, err
	}
	return a, os.WriteFile(dir+"/"+updated, nil, 0o644)
}

// updated is a file that says that an index was fetched.
const updated = "updated"

// systemMirror gives the address that the system's own apt has Debian's main archive at.
func systemMirror(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
		"Created-By: Packages", "Origin: Debian").Output()
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 3 && f[2] == "main" && !strings.Contains(f[1], "-") {
			return f[0], nil
		}
	}
	return "", errors.New("the system's apt has no mirror of Debian's main archive (apt-get update?)")
}

func (a *apt) run(ctx context.Context, dir, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "APT_CONFIG="+a.dir+"/apt.conf", "LC_ALL=C")
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, strings.TrimSpace(errs.String()))
	}
	return string(out), nil
}

// versionOf gives the version of a package that the index has, or "".
func (a *apt) versionOf(ctx context.Context, name string) string {
	out, err := a.run(ctx, a.dir, "apt-cache", "show", "--no-all-versions", name)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(out) {
		if v, ok := strings.CutPrefix(line, "Version: "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// download fetches a package of exactly that version into dir, and gives the file.
func (a *apt) download(ctx context.Context, dir, name, version string) (string, error) {
	before, _ := filepath.Glob(dir + "/*.deb")
	if _, err := a.run(ctx, dir, "apt-get", "download", "-q", name+"="+version); err != nil {
		return "", err
	}
	after, _ := filepath.Glob(dir + "/*.deb")
	for _, f := range after {
		if !slices.Contains(before, f) {
			return f, nil
		}
	}
	return "", fmt.Errorf("apt-get download %s: no file", name)
}

// newestABI gives the newest ABI of the series of which the index has the first package.
func (a *apt) newestABI(ctx context.Context, k Kernel) (string, error) {
	out, err := a.run(ctx, a.dir, "apt-cache", "pkgnames", strings.SplitN(k.Packages[0].Name, "*", 2)[0])
	if err != nil {
		return "", err
	}
	head, tail, _ := strings.Cut(k.Packages[0].Name, "*")
	wanted, err := regexp.Compile("^" + regexp.QuoteMeta(head) + "(" + k.Series + ")" + regexp.QuoteMeta(tail) + "$")
	if err != nil {
		return "", err
	}
	var best string
	for _, name := range strings.Fields(out) {
		m := wanted.FindStringSubmatch(name)
		if m == nil || best != "" && !newer(m[1], best) || a.versionOf(ctx, name) == "" {
			continue
		}
		best = m[1]
	}
	if best == "" {
		return "", fmt.Errorf("no package %s with %s for *", k.Packages[0].Name, k.Series)
	}
	return best, nil
}

// newer compares versions by their numbers.
func newer(a, b string) bool {
	digits := regexp.MustCompile(`[0-9]+`)
	x, y := digits.FindAllString(a, -1), digits.FindAllString(b, -1)
	return slices.CompareFunc(x, y, func(p, q string) int {
		p, q = strings.TrimLeft(p, "0"), strings.TrimLeft(q, "0")
		if len(p) != len(q) {
			return len(p) - len(q)
		}
		return strings.Compare(p, q)
	}) > 0
}

// fetchPackages puts the packages of a kernel into dir and gives the files. What it
// gave up on is in the error; another version than the pinned one is in the log.
func fetchPackages(ctx context.Context, k Kernel, dir string, log func(string, ...any)) ([]string, error) {
	var errs []error
	for _, pinned := range []bool{true, false} {
		for _, suite := range k.Suites {
			files, err := fetchFrom(ctx, k, dir, suite, pinned, log)
			if err == nil {
				return files, nil
			}
			errs = append(errs, fmt.Errorf("%s: %w", suite, err))
		}
	}
	return nil, fmt.Errorf("vmlab: kernel %s: %w", k.Name, errors.Join(errs...))
}

// fetchFrom takes the pinned packages, or the newest of the series, from one suite.
func fetchFrom(ctx context.Context, k Kernel, dir, suite string, pinned bool, log func(string, ...any)) ([]string, error) {
	home := filepath.Join(dir, "apt-"+suite)
	a := &apt{dir: home, arch: k.Arch, log: log}
	if !exists(filepath.Join(home, updated)) {
		var err error
		if a, err = newApt(ctx, home, suite, k.Arch, log); err != nil {
			return nil, err
		}
	}
	abi := k.ABI
	if !pinned {
		var err error
		if abi, err = a.newestABI(ctx, k); err != nil {
			return nil, err
		}
		log("vmlab: the mirror has no %s %s any more: taking %s of %s", k.Name, k.Version, abi, suite)
	}
	var files []string
	for _, p := range k.Packages {
		version := k.Version
		if !pinned {
			version = a.versionOf(ctx, p.packageName(abi))
		}
		f, err := a.download(ctx, dir, p.packageName(abi), version)
		if err != nil {
			return nil, err
		}
		if sum, err := fileSum(f); err != nil || pinned && sum != p.SHA256 {
			return nil, fmt.Errorf("%s: SHA-256 %s, want %s (%v)", filepath.Base(f), sum, p.SHA256, err)
		}
		files = append(files, f)
	}
	return files, nil
}

// fileSum gives the SHA-256 of a file in hexadecimal.
func fileSum(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}
