// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// wantedFile matches the files of a kernel's packages that a guest needs. Packages
// hold hundreds of megabytes; these are some tens.
var wantedFile = regexp.MustCompile(`^\./(boot/(vmlinu[xz]|config|System\.map)-|usr/lib/modules/[^/]+/vmlinuz$|` +
	`(usr/)?lib/modules/[^/]+/(modules\.builtin$|kernel/drivers/(virtio/|block/virtio_blk\.|firmware/qemu_fw_cfg\.)))`)

// unpackKernel takes the wanted files out of packages into dir, without directories:
// vmlinuz, config, modules.builtin and NAME.ko.
func unpackKernel(ctx context.Context, debs []string, dir string) error {
	for _, deb := range debs {
		if err := unpackDeb(ctx, deb, dir); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(deb), err)
		}
	}
	vmlinuz, err := os.ReadFile(dir + "/vmlinuz")
	if err != nil {
		return errors.New("the packages have no vmlinuz")
	}
	image, err := unwrapImage(ctx, vmlinuz)
	if err != nil || image == nil {
		return err
	}
	return os.WriteFile(dir+"/vmlinuz", image, 0o644)
}

// unwrapImage takes a kernel out of an EFI program that would decompress it, as QEMU
// cannot start that by itself. It gives nil where there is none. The header (the
// kernel's include/linux/pe.h and zboot-header.S): "MZ", at 4 "zimg", at 8 the offset
// and at 12 the size of the payload, at 24 the name of the compression.
func unwrapImage(ctx context.Context, b []byte) ([]byte, error) {
	if len(b) < 64 || string(b[:2]) != "MZ" || string(b[4:8]) != "zimg" {
		return nil, nil
	}
	at, size := binary.LittleEndian.Uint32(b[8:]), binary.LittleEndian.Uint32(b[12:])
	if uint64(at)+uint64(size) > uint64(len(b)) {
		return nil, errors.New("vmlinuz: its payload is outside of it")
	}
	codec, _, _ := strings.Cut(string(b[24:56]), "\x00")
	suffix := map[string]string{"gzip": ".gz", "zstd": ".zst", "zstd22": ".zst", "xzkern": ".xz", "xz": ".xz"}[codec]
	if suffix == "" {
		return nil, fmt.Errorf("vmlinuz: compressed with %q", codec)
	}
	_, image, err := inflate(ctx, "vmlinuz"+suffix, b[at:][:size])
	return image, err
}

func unpackDeb(ctx context.Context, deb, dir string) error {
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = unpackTar(ctx, out, dir)
	io.Copy(io.Discard, out)
	if e := cmd.Wait(); e != nil && err == nil {
		err = fmt.Errorf("%w: %s", e, errs.String())
	}
	return err
}

func unpackTar(ctx context.Context, r io.Reader, dir string) error {
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !wantedFile.MatchString(h.Name) {
			continue
		}
		name := path.Base(h.Name)
		if strings.Contains(h.Name, "/boot/") {
			name, _, _ = strings.Cut(name, "-")
		}
		b, err := io.ReadAll(in)
		if err != nil {
			return err
		}
		if name, b, err = inflate(ctx, name, b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			return err
		}
	}
}

// inflate undoes the compression that a module's name tells of.
func inflate(ctx context.Context, name string, b []byte) (string, []byte, error) {
	tool := map[string]string{".xz": "xz", ".zst": "zstd", ".gz": "gzip"}[filepath.Ext(name)]
	if tool == "" {
		return name, b, nil
	}
	cmd := exec.CommandContext(ctx, tool, "-dc")
	cmd.Stdin = bytes.NewReader(b)
	out, err := cmd.Output()
	if err != nil {
		return "", nil, fmt.Errorf("%s of %s: %w", tool, name, err)
	}
	return strings.TrimSuffix(name, filepath.Ext(name)), out, nil
}

// modulesFor gives the files of the modules that a guest loads, in an order in which
// each comes after those that it needs. What is not a file is built in.
func modulesFor(dir string) ([]string, error) {
	var order []string
	seen := map[string]bool{}
	var visit func(name string) error
	visit = func(name string) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		file, ok := moduleFile(dir, name)
		if !ok {
			return nil
		}
		needs, err := moduleNeeds(file)
		if err != nil {
			return err
		}
		for _, n := range needs {
			if err := visit(n); err != nil {
				return err
			}
		}
		order = append(order, file)
		return nil
	}
	for _, name := range []string{"virtio_pci", "virtio_blk", "qemu_fw_cfg"} {
		if err := visit(name); err != nil {
			return nil, fmt.Errorf("module %s: %w", name, err)
		}
	}
	return order, nil
}

// moduleFile finds a module: its name has underscores where its file may have dashes.
func moduleFile(dir, name string) (string, bool) {
	files, _ := filepath.Glob(dir + "/*.ko")
	for _, f := range files {
		if strings.ReplaceAll(strings.TrimSuffix(filepath.Base(f), ".ko"), "-", "_") == name {
			return f, true
		}
	}
	return "", false
}

// moduleNeeds reads depends= from a module's section .modinfo.
func moduleNeeds(file string) ([]string, error) {
	f, err := elf.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := f.Section(".modinfo")
	if s == nil {
		return nil, errors.New("no section .modinfo")
	}
	b, err := s.Data()
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(b), "\x00") {
		if v, ok := strings.CutPrefix(line, "depends="); ok && v != "" {
			return strings.Split(v, ","), nil
		}
	}
	return nil, nil
}
