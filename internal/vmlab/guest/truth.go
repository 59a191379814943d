// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora/internal/vmlab/pid1"
	"github.com/remora-go/remora/internal/vmlab/witness"
)

// writeTruth writes what is true now to the disk "truth", as a tar archive. What
// changes soonest comes last.
func writeTruth(all []*child) error {
	f, err := pid1.Disk("truth", os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	out := bufio.NewWriterSize(f, 1<<20)
	t := tar.NewWriter(out)
	for _, name := range []string{
		"/proc/kallsyms", "/proc/modules", "/proc/iomem", "/proc/version", "/proc/cmdline", "/proc/cpuinfo",
		"/proc/swaps", "/proc/zoneinfo", "/proc/vmallocinfo", "/proc/mounts", "/proc/config.gz", "/sys/kernel/vmcoreinfo",
		"/sys/kernel/notes", "/proc/sys/kernel/osrelease",
	} {
		addFile(t, name) // not every kernel has each
	}
	for _, pattern := range []string{"/sys/kernel/btf/*", "/sys/module/*/sections/.*"} {
		names, _ := filepath.Glob(pattern)
		for _, name := range names {
			addFile(t, name)
		}
	}
	var reports []witness.Report
	for _, c := range all {
		reports = append(reports, c.report)
	}
	b, err := json.Marshal(reports)
	if err != nil {
		return err
	}
	if err := add(t, "witnesses.json", b); err != nil {
		return err
	}
	addProcesses(t)
	if err := addLog(t); err != nil {
		return err
	}
	for _, r := range reports {
		b, err := pageTable(r)
		if err != nil {
			return fmt.Errorf("pages of %s: %w", r.Role, err)
		}
		if err := add(t, fmt.Sprintf("pages/%d", r.Pid), b); err != nil {
			return err
		}
	}
	if err := addKcore(t); err != nil {
		return err
	}
	addFile(t, "/proc/meminfo")
	addFile(t, "/proc/buddyinfo")
	if err := t.Close(); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return f.Sync()
}

// addProcesses adds the files of every process and thread.
func addProcesses(t *tar.Writer) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		for _, name := range []string{"maps", "smaps", "cmdline", "environ", "status", "stat", "comm", "auxv"} {
			addFile(t, dir+"/"+name)
		}
		tasks, _ := filepath.Glob(dir + "/task/*")
		for _, task := range tasks {
			addFile(t, task+"/comm")
			addFile(t, task+"/status")
		}
	}
}

// addFile adds a file under its name without the leading slash. What cannot be read
// is left out.
func addFile(t *tar.Writer, name string) {
	if b, err := os.ReadFile(name); err == nil {
		add(t, name[1:], b)
	}
}

func add(t *tar.Writer, name string, b []byte) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err := t.Write(b)
	return err
}

// addLog adds the kernel's log twice: "kmsg" has the records of /dev/kmsg, "dmesg"
// the text of syslog(2).
func addLog(t *tar.Writer) error {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var all bytes.Buffer
	one := make([]byte, 8192)
	for {
		n, err := unix.Read(fd, one)
		if err == unix.EPIPE {
			continue // a record was overwritten while we read
		}
		if err != nil || n == 0 {
			break
		}
		all.Write(one[:n])
	}
	if err := add(t, "kmsg", all.Bytes()); err != nil {
		return err
	}
	text := make([]byte, 4<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, text)
	if err != nil {
		return err
	}
	return add(t, "dmesg", text[:n])
}

// pageTable says of each page of a witness's regions, a line each, in hexadecimal: its
// address, its entry in /proc/PID/pagemap, and its frame's entries in /proc/kpageflags
// and /proc/kpagecount, or - where it has no frame.
func pageTable(r witness.Report) ([]byte, error) {
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", r.Pid))
	if err != nil {
		return nil, err
	}
	defer pagemap.Close()
	flags, err := os.Open("/proc/kpageflags")
	if err != nil {
		return nil, err
	}
	defer flags.Close()
	count, err := os.Open("/proc/kpagecount")
	if err != nil {
		return nil, err
	}
	defer count.Close()
	var out bytes.Buffer
	for _, g := range r.Regions {
		for at := g.Start; at < g.End; at += uint64(r.Page) {
			entry, err := word(pagemap, at/uint64(r.Page))
			if err != nil {
				return nil, err
			}
			const present, frame = 1 << 63, 1<<55 - 1
			if entry&present == 0 {
				fmt.Fprintf(&out, "%x %x - -\n", at, entry)
				continue
			}
			f, err := word(flags, entry&frame)
			if err != nil {
				return nil, err
			}
			n, err := word(count, entry&frame)
			if err != nil {
				return nil, err
			}
			fmt.Fprintf(&out, "%x %x %x %x\n", at, entry, f, n)
		}
	}
	return out.Bytes(), nil
}

// word reads the index-th 8 bytes of a file.
func word(f io.ReaderAt, index uint64) (uint64, error) {
	var b [8]byte
	_, err := f.ReadAt(b[:], int64(index*8))
	return binary.NativeEndian.Uint64(b[:]), err
}

// addKcore adds the headers of /proc/kcore: where the kernel has what, and its
// VMCOREINFO. Not every kernel has the file.
func addKcore(t *tar.Writer) error {
	f, err := os.Open("/proc/kcore")
	if err != nil {
		return nil
	}
	defer f.Close()
	head := make([]byte, 64<<10)
	n, err := f.Read(head)
	if err != nil {
		return err
	}
	return add(t, "kcore.head", head[:n])
}
