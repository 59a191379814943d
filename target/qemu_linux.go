// SPDX-License-Identifier: Apache-2.0

package target

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
)

// monitorsOf gives the paths of the QMP sockets of a process that is QEMU, by its command
// line. It connects to nothing, since some sockets of QEMU's serve one client alone.
func monitorsOf(pid int) ([]string, error) {
	name := qemuPrefix + strconv.Itoa(pid)
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%s: pid %d does not exist: %w", name, pid, fs.ErrNotExist)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
	var all []string
	for _, m := range monitors(args) {
		path, err := m.find(pid)
		if err != nil {
			return nil, err
		}
		if path != "" {
			all = append(all, path)
		}
	}
	if len(all) == 0 {
		return nil, &remora.AccessError{Target: name, Act: "ask", Reason: "its command line has no QMP socket, by which QEMU tells where guest memory lies",
			Remedy: "start it with -qmp unix:PATH,server=on,wait=off, or name a QMP socket that it has: qemu:PATH"}
	}
	return all, nil
}

// monitor is a QMP socket of QEMU's: its path, or the descriptor that it was given.
type monitor struct {
	path string
	fd   int // -1: none
}

// find gives the path of the socket as this process sees it, "" if it has none.
func (m monitor) find(pid int) (path string, err error) {
	path = m.path
	if m.fd >= 0 {
		path, err = listener(pid, m.fd)
	}
	if err != nil || path == "" || path[0] == '@' { // of the abstract kind, which has no directory
		return path, err
	}
	if !filepath.IsAbs(path) {
		dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if err != nil {
			return "", refusedSocket(pid, err)
		}
		path = filepath.Join(dir, path)
	}
	if inside := fmt.Sprintf("/proc/%d/root%s", pid, path); !exists(path) && exists(inside) {
		return inside, nil // it runs in a file system of its own
	}
	return path, nil
}

// refusedSocket is the error of a look at a process of another user.
func refusedSocket(pid int, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%s%d: %w", qemuPrefix, pid, err)
	}
	return &remora.AccessError{Target: qemuPrefix + strconv.Itoa(pid), Act: "find the QMP socket of",
		Reason: "it runs as another user", Remedy: "run as that user or as root, or name its QMP socket: qemu:PATH", Err: err}
}

// monitors finds the QMP sockets in QEMU's arguments.
func monitors(args []string) (all []monitor) {
	chardevs := map[string]map[string]string{}
	var ids []string
	for i := 0; i+1 < len(args); i++ {
		value := args[i+1]
		switch strings.Replace(args[i], "--", "-", 1) {
		case "-qmp", "-qmp-pretty":
			if rest, ok := strings.CutPrefix(value, "unix:"); ok {
				path, _, _ := strings.Cut(rest, ",")
				all = append(all, monitor{path, -1})
			}
			if rest, ok := strings.CutPrefix(value, "chardev:"); ok {
				ids = append(ids, rest)
			}
		case "-mon":
			if o := options(value, "chardev"); o["mode"] == "control" {
				ids = append(ids, o["chardev"])
			}
		case "-chardev":
			if o := options(value, "backend"); o["backend"] == "socket" {
				chardevs[o["id"]] = o
			}
		}
	}
	for _, id := range ids {
		o := chardevs[id]
		m := monitor{o["path"], -1}
		if o["abstract"] == "on" {
			m.path = "@" + m.path
		}
		if n, err := strconv.Atoi(o["fd"]); err == nil {
			m = monitor{"", n}
		}
		if m.path != "" || m.fd >= 0 {
			all = append(all, m)
		}
	}
	return all
}

// options takes apart "VALUE,KEY=VALUE...". The first may have the key first, or none.
// A doubled comma is a comma.
func options(text, first string) map[string]string {
	all := map[string]string{}
	const comma = "\x00"
	for i, part := range strings.Split(strings.ReplaceAll(text, ",,", comma), ",") {
		part = strings.ReplaceAll(part, comma, ",")
		key, value, ok := strings.Cut(part, "=")
		if !ok && i == 0 {
			key, value = first, part
		}
		all[key] = value
	}
	return all
}

// listener gives the path of a socket that a process has.
func listener(pid, fd int) (string, error) {
	link, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	if err != nil {
		return "", refusedSocket(pid, err)
	}
	inode := strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]")
	table, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", pid))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(table)) { // unix(7), proc_pid_net(5)
		f := strings.Fields(line)
		if len(f) == 8 && f[6] == inode {
			return f[7], nil
		}
	}
	return "", nil
}
