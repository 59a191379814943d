// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// archive writes a cpio archive of the format "newc", as the kernel takes it for its
// first file system.
type archive struct {
	out io.Writer
	ino int
	err error
}

// Modes of files, as in stat(2).
const (
	modeDir  = 0o40755
	modeExec = 0o100755
	modeFile = 0o100644
)

// add writes one file. Directories have no contents, and come before what is in them.
func (a *archive) add(name string, mode int, contents []byte) {
	a.ino++
	head := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.ino, mode, 0, 0, 1, 0, len(contents), 0, 0, 0, 0, len(name)+1, 0, name)
	a.write([]byte(head))
	a.write(make([]byte, -len(head)&3))
	a.write(contents)
	a.write(make([]byte, -len(contents)&3))
}

// close writes the end.
func (a *archive) close() error {
	a.ino = -1
	a.add("TRAILER!!!", 0, nil)
	return a.err
}

func (a *archive) write(b []byte) {
	if a.err == nil {
		_, a.err = a.out.Write(b)
	}
}

// carried is a file that a guest has besides /init and modules.
type carried struct {
	name     string // in one of the directories that initramfs makes
	mode     int
	contents []byte
}

// initramfs packs /init, modules, and more.
func initramfs(init []byte, modules []string, more []carried) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	a := &archive{out: z}
	for _, dir := range []string{"dev", "proc", "sys", "run", "tmp", "bin", "modules", "crash"} {
		a.add(dir, modeDir, nil)
	}
	a.add("init", modeExec, init)
	for i, m := range modules {
		b, err := os.ReadFile(m)
		if err != nil {
			return nil, err
		}
		a.add(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(m)), modeFile, b)
	}
	for _, c := range more {
		a.add(c.name, c.mode, c.contents)
	}
	if err := a.close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
