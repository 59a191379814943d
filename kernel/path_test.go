// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"strings"
	"testing"

	"github.com/remora-go/remora"
)

// pathWorld is a taskWorld with files in it: a root with the directory "usr" that holds
// "lib" and "gone"; and mounted on /usr/lib a file system that holds "x".
type pathWorld struct {
	*taskWorld
	f *pathFields
}

const (
	pathDentries = worldNodes + 0x10000
	pathMounts   = worldNodes + 0x20000
	pathFiles    = worldNodes + 0x30000
	pathSupers   = worldNodes + 0x40000
)

// The entries of a pathWorld by their places.
const (
	entryRoot = iota
	entryUsr
	entryLib
	entryGone
	entryTop // of what is mounted
	entryX
	entryAlone // in no directory
)

func newPathWorld(t *testing.T) *pathWorld {
	f := &pathFields{
		filePath: held(16, 16), pathMount: held(0, 8), pathDentry: held(8, 8),
		dParent: held(24, 8), dName: held(40, 8), dLen: held(36, 4), dHash: held(16, 8), dSuper: held(104, 8), dNode: held(48, 8),
		mount: held(32, 32), mountRoot: held(0, 8), mountParent: held(16, 8), mountPoint: held(24, 8),
		superType: held(40, 8), typeName: held(0, 8), inodeNumber: held(64, 8),
	}
	if err := f.resolve(); err != nil {
		t.Fatal(err)
	}
	w := &pathWorld{newTaskWorld(t), f}
	w.k.paths.answer.Store(&answer[*pathFields]{value: f})
	for at, x := range []struct {
		parent int
		name   string
	}{{entryRoot, "/"}, {entryRoot, "usr"}, {entryUsr, "lib"}, {entryUsr, "gone"}, {entryTop, "/"}, {entryTop, "x\n"}, {entryAlone, "memfd:y"}} {
		a := dentryAt(at)
		w.put(a, f.dParent, uint64(dentryAt(x.parent)))
		w.put(a, f.dLen, uint64(len(x.name)))
		w.put(a, f.dName, uint64(a)+0x200)
		w.put(a, f.dHash, uint64(a)+0x300)
		w.poke(a+0x200, []byte(x.name))
	}
	w.put(dentryAt(entryGone), f.dHash, 0)
	for at, root := range []int{entryRoot, entryTop} {
		m := mountAt(at)
		w.put(m+remora.Addr(f.mount.off), f.mountRoot, uint64(dentryAt(root)))
		w.put(m, f.mountParent, uint64(mountAt(0)))
		w.put(m, f.mountPoint, uint64(dentryAt([]int{entryRoot, entryLib}[at])))
	}
	return w
}

func dentryAt(at int) remora.Addr { return pathDentries + remora.Addr(at)*0x400 }
func mountAt(at int) remora.Addr  { return pathMounts + remora.Addr(at)*0x400 }

// file makes a struct file.
func (w *pathWorld) file(mount, dentry int) remora.Addr {
	w.put(pathFiles, w.f.pathMount.from(w.f.filePath.off), uint64(mountAt(mount))+w.f.mount.off)
	w.put(pathFiles, w.f.pathDentry.from(w.f.filePath.off), uint64(dentryAt(dentry)))
	return pathFiles
}

func TestPath(t *testing.T) {
	w := newPathWorld(t)
	for _, x := range []struct {
		mount, dentry int
		want          string
	}{
		{0, entryRoot, "/"}, {0, entryUsr, "/usr"}, {0, entryLib, "/usr/lib"}, {0, entryGone, "/usr/gone (deleted)"},
		{1, entryTop, "/usr/lib"}, {1, entryX, "/usr/lib/x\n"}, {0, entryAlone, "/memfd:y (deleted)"},
	} {
		if got, err := w.k.path(t.Context(), w.file(x.mount, x.dentry)); err != nil || got != x.want {
			t.Errorf("%q, %v; want %q", got, err, x.want)
		}
	}
	// What the file system is called says how the kernel names what has no name.
	w.put(dentryAt(entryAlone), w.f.dSuper, uint64(pathSupers))
	w.put(dentryAt(entryAlone), w.f.dNode, uint64(pathSupers+0x300))
	w.put(pathSupers+0x300, w.f.inodeNumber, 1234)
	w.put(pathSupers, w.f.superType, uint64(pathSupers+0x100))
	w.put(pathSupers+0x100, w.f.typeName, uint64(pathSupers+0x200))
	for kind, want := range map[string]string{"anon_inodefs": "anon_inode:memfd:y", "sockfs": "socket:[1234]", "pipefs": "pipe:[1234]", "tmpfs": "/memfd:y (deleted)"} {
		w.poke(pathSupers+0x200, append([]byte(kind), 0))
		if got, err := w.k.path(t.Context(), w.file(0, entryAlone)); err != nil || got != want {
			t.Errorf("of %s: %q, %v; want %q", kind, got, err, want)
		}
	}
}

func TestPathBroken(t *testing.T) {
	for _, x := range []struct {
		name   string
		breaks func(w *pathWorld)
		want   string
		cause  error
	}{
		{"directories in a circle", func(w *pathWorld) {
			w.put(dentryAt(entryUsr), w.f.dParent, uint64(dentryAt(entryLib)))
		}, "more than 256 directories", remora.ErrCorrupt},
		{"mounts in a circle", func(w *pathWorld) {
			w.put(mountAt(0), w.f.mountParent, uint64(mountAt(1)))
			w.put(mountAt(0), w.f.mountPoint, uint64(dentryAt(entryX)))
		}, "more than 256 directories", remora.ErrCorrupt},
		{"a long name", func(w *pathWorld) { w.put(dentryAt(entryUsr), w.f.dLen, 1<<31) }, "has a name of 2147483648 bytes", remora.ErrCorrupt},
		{"a directory that is none", func(w *pathWorld) { w.put(dentryAt(entryLib), w.f.dParent, 12) }, "a struct dentry at 0xc", remora.ErrCorrupt},
		{"not saved", func(w *pathWorld) { w.lose(pathDentries) }, "the name of the file at", remora.ErrNotSaved},
		{"a name that was not saved", func(w *pathWorld) { w.put(dentryAt(entryLib), w.f.dName, 0x1000) }, "the name in the struct dentry", remora.ErrUnmapped},
		{"no file", func(w *pathWorld) { w.lose(pathFiles) }, "the name of the file at", remora.ErrNotSaved},
		{"no mount", func(w *pathWorld) { w.lose(pathMounts) }, "the name of the file at", remora.ErrNotSaved},
	} {
		t.Run(x.name, func(t *testing.T) {
			w := newPathWorld(t)
			at := w.file(0, entryLib)
			x.breaks(w)
			if got, err := w.k.path(t.Context(), at); err == nil || !strings.Contains(err.Error(), x.want) || !errors.Is(err, x.cause) {
				t.Errorf("%q, %v; want %q", got, err, x.want)
			}
		})
	}
}
