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

// monitorOf gives the path of the QMP socket of a process that is QEMU, by its command
// line. It connects to nothing, since some sockets of QEMU's serve one client alone.
func monitorOf(pid int) (string, error) {
	name := qemuPrefix + strconv.Itoa(pid)
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%s: pid %d does not exist: %w", name, pid, fs.ErrNotExist)
	case err != nil:
		return "", fmt.Errorf("%s: %w", name, err)
	}
	args := strings.Split(string(bytes.TrimRight(line, "\x00")), "\x00")
	path, fd := monitorSocket(args)
	if fd >= 0 {
		if path, err = listener(pid, fd); err != nil {
			return "", err
		}
	}
	if path == "" {
		return "", &remora.AccessError{Target: name, Act: "ask", Reason: "its command line has no QMP socket, by which QEMU tells where guest memory lies",
			Remedy: "start it with -qmp unix:PATH,server=on,wait=off, or name a QMP socket that it has: qemu:PATH"}
	}
	if path[0] == '@' {
		return path, nil // of the abstract kind, which has no directory
	}
	if !filepath.IsAbs(path) {
		dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if err != nil {
			return "", fmt.Errorf("%s: its socket is %s, in its own directory: %w", name, path, err)
		}
		path = filepath.Join(dir, path)
	}
	if inside := fmt.Sprintf("/proc/%d/root%s", pid, path); !exists(path) && exists(inside) {
		return inside, nil // it runs in a file system of its own
	}
	return path, nil
}

// monitorSocket finds the QMP socket in QEMU's arguments: its path, or the descriptor
// that it was given. fd is -1 where there is none.
func monitorSocket(args []string) (path string, fd int) {
	chardevs := map[string]map[string]string{}
	fd = -1
	var monitors []string
	for i := 0; i+1 < len(args); i++ {
		value := args[i+1]
		switch strings.Replace(args[i], "--", "-", 1) {
		case "-qmp", "-qmp-pretty":
			if rest, ok := strings.CutPrefix(value, "unix:"); ok {
				path, _, _ = strings.Cut(rest, ",")
				return path, -1
			}
			if rest, ok := strings.CutPrefix(value, "chardev:"); ok {
				monitors = append(monitors, rest)
			}
		case "-mon":
			o := options(value, "chardev")
			if o["mode"] == "control" || strings.HasPrefix(o["mode"], "control") {
				monitors = append(monitors, o["chardev"])
			}
		case "-chardev":
			o := options(value, "backend")
			if o["backend"] == "socket" {
				chardevs[o["id"]] = o
			}
		}
	}
	for _, id := range monitors {
		o := chardevs[id]
		if o["path"] != "" {
			if o["abstract"] == "on" {
				return "@" + o["path"], -1
			}
			return o["path"], -1
		}
		if n, err := strconv.Atoi(o["fd"]); err == nil {
			return "", n
		}
	}
	return "", -1
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
		if errors.Is(err, fs.ErrPermission) {
			return "", &remora.AccessError{Target: qemuPrefix + strconv.Itoa(pid), Act: "look at the descriptors of",
				Reason: "it runs as another user", Remedy: "run as that user or as root, or name its QMP socket: qemu:PATH", Err: err}
		}
		return "", err
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
