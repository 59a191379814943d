// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// What makedumpfile makes of an amd64 guest: the compression, the level of
// its filter, and how it is laid out. Vmcore is what it is made of: QEMU's ELF image
// with virtual addresses, as /proc/vmcore has them.
const (
	Vmcore Format = "vmcore"

	MakedumpfileZlib0  Format = "makedumpfile-zlib-0"
	MakedumpfileZlib1  Format = "makedumpfile-zlib-1"
	MakedumpfileZlib31 Format = "makedumpfile-zlib-31"
	MakedumpfileLZO0   Format = "makedumpfile-lzo-0"
	MakedumpfileLZO1   Format = "makedumpfile-lzo-1"
	MakedumpfileLZO31  Format = "makedumpfile-lzo-31"
	MakedumpfilePlain1 Format = "makedumpfile-plain-1" // no compression
	MakedumpfileELF0   Format = "makedumpfile-elf-0"
	MakedumpfileELF1   Format = "makedumpfile-elf-1"
	MakedumpfileELF31  Format = "makedumpfile-elf-31"
	FlattenedZlib31    Format = "makedumpfile-flattened-zlib-31"
	FlattenedLZO1      Format = "makedumpfile-flattened-lzo-1"
	FlattenedELF31     Format = "makedumpfile-flattened-elf-31"
	SplitZlib31        Format = "makedumpfile-split-zlib-31" // three parts
	SplitZlib1Empty    Format = "makedumpfile-split-zlib-1"  // three parts, of which some hold no page
	CutZlib0           Format = "makedumpfile-cut-zlib-0"    // the disk was full: incomplete
	CutELF1            Format = "makedumpfile-cut-elf-1"     // the same
)

// Makedumpfiles gives every format of makedumpfile's.
func Makedumpfiles() []Format {
	return []Format{MakedumpfileZlib0, MakedumpfileZlib1, MakedumpfileZlib31,
		MakedumpfileLZO0, MakedumpfileLZO1, MakedumpfileLZO31, MakedumpfilePlain1,
		MakedumpfileELF0, MakedumpfileELF1, MakedumpfileELF31,
		FlattenedZlib31, FlattenedLZO1, FlattenedELF31, SplitZlib31, SplitZlib1Empty, CutZlib0, CutELF1}
}

// splitParts is how many parts a split image has.
const splitParts = 3

// cutSize is the size of the disk that an image is cut off by.
const cutSize = 24 << 20

// command gives makedumpfile's arguments for a format, and "split", "flattened", "cut"
// or "" for how it is laid out.
func (f Format) command() (args []string, layout string) {
	words := strings.Split(string(f), "-")[1:]
	switch words[0] {
	case "split", "flattened", "cut":
		layout, words = words[0], words[1:]
	}
	// The report is 16; progress, 1, is not wanted.
	args = []string{"--message-level", "30", "-d", words[1]}
	switch words[0] {
	case "zlib":
		args = append(args, "-c")
	case "lzo":
		args = append(args, "-l")
	case "elf":
		args = append(args, "-E")
	}
	switch {
	case layout == "flattened":
		args = append(args, "-F")
	case layout == "split" && f != SplitZlib1Empty:
		args = append(args, "--split", "--splitblock-size", "65536") // KiB
	case layout == "split":
		args = append(args, "--split")
	}
	return args, layout
}

// makedumpfile has an image made of vmcore in dir: "dump", or "dump.1" and so on, and
// "report", which is what the program printed.
func makedumpfile(ctx context.Context, f Format, vmcore, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	args, layout := f.command()
	args = append(args, vmcore)
	var cmd *exec.Cmd
	out := dir + "/dump"
	switch layout {
	case "split":
		for i := range splitParts {
			args = append(args, fmt.Sprintf("%s.%d", out, i+1))
		}
		cmd = exec.CommandContext(ctx, "makedumpfile", args...)
	case "cut":
		// A file system of its own, in name spaces of its own, so that nothing is left
		// mounted and no privilege is needed.
		script := `mount -t tmpfs -o size=` + fmt.Sprint(cutSize) + ` full "$1" || exit 90; out=$2; dir=$1; shift 2
makedumpfile "$@" "$dir/dump"; status=$?; cp "$dir/dump" "$out" && exit $status`
		mount := dir + "/full"
		if err := os.Mkdir(mount, 0o755); err != nil {
			return err
		}
		defer os.Remove(mount)
		cmd = exec.CommandContext(ctx, "unshare", slices.Concat([]string{"-r", "-m", "sh", "-c", script, "sh", mount, out}, args)...)
	case "flattened":
		cmd = exec.CommandContext(ctx, "makedumpfile", args...)
		file, err := os.Create(out)
		if err != nil {
			return err
		}
		defer file.Close()
		cmd.Stdout = file
	default:
		cmd = exec.CommandContext(ctx, "makedumpfile", append(args, out)...)
	}
	var report bytes.Buffer
	cmd.Stderr = &report
	if cmd.Stdout == nil {
		cmd.Stdout = &report
	}
	err := cmd.Run()
	if layout == "cut" {
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 || !bytes.Contains(report.Bytes(), []byte("No space left on device")) {
			return fmt.Errorf("makedumpfile on a full disk: %v, want its failure: %s", err, report.String())
		}
	} else if err != nil {
		return fmt.Errorf("makedumpfile %s: %w: %s", strings.Join(args, " "), err, report.String())
	}
	return os.WriteFile(filepath.Join(dir, "report"), report.Bytes(), 0o644)
}
