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

// initramfs packs /init and modules. crash is what a guest that crashes needs besides:
// the names of files for the directory /crash, and where they come from; or nil.
func initramfs(init []byte, modules []string, crash map[string][]byte) ([]byte, error) {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	a := &archive{out: z}
	for _, dir := range []string{"dev", "proc", "sys", "run", "modules", "crash"} {
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
	for _, name := range []string{"vmlinuz", "initrd"} {
		if b, ok := crash[name]; ok {
			a.add("crash/"+name, modeFile, b)
		}
	}
	if err := a.close(); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}
