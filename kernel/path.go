// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/remora-go/remora"
)

const (
	maxComponents = 256 // of a file's name, mounts included
	maxName       = 255 // bytes of a component (NAME_MAX)
)

// pathFields are the members that lead from an open file to its name: include/linux/fs.h
// and dcache.h, fs/mount.h.
type pathFields struct {
	filePath, pathMount, pathDentry            field // struct file, struct path
	dParent, dName, dLen, dHash, dSuper, dNode field // struct dentry
	mount, mountRoot, mountParent, mountPoint  field // struct mount, struct vfsmount
	superType, typeName, inodeNumber           field

	dentry frame
}

func (k *Kernel) learnPaths(ctx context.Context) (*pathFields, error) {
	types, err := k.Types(ctx)
	if err != nil {
		return nil, fmt.Errorf("names of files: %w", err)
	}
	f := &pathFields{}
	if err := types.fields(ctx,
		wanted{&f.filePath, "file.f_path", false},
		wanted{&f.pathMount, "path.mnt", false},
		wanted{&f.pathDentry, "path.dentry", false},
		wanted{&f.dParent, "dentry.d_parent", false},
		wanted{&f.dName, "dentry.d_name.name", false},
		wanted{&f.dLen, "dentry.d_name.len", false},
		wanted{&f.dHash, "dentry.d_hash.pprev", true},
		wanted{&f.dSuper, "dentry.d_sb", true},
		wanted{&f.dNode, "dentry.d_inode", true},
		wanted{&f.mount, "mount.mnt", false},
		wanted{&f.mountParent, "mount.mnt_parent", false},
		wanted{&f.mountPoint, "mount.mnt_mountpoint", false},
		wanted{&f.mountRoot, "vfsmount.mnt_root", false},
		wanted{&f.superType, "super_block.s_type", true},
		wanted{&f.typeName, "file_system_type.name", true},
		wanted{&f.inodeNumber, "inode.i_ino", true},
	); err != nil {
		return nil, fmt.Errorf("names of files: %w", err)
	}
	return f, f.resolve()
}

func (f *pathFields) resolve() (err error) {
	f.dentry, err = frameOf("dentry", f.dParent, f.dName, f.dLen, f.dHash, f.dSuper, f.dNode)
	return err
}

// path gives the name of the struct file at a, from the root of its mount namespace on: as
// it is, which need not be text. " (deleted)" is behind that of one that has been unlinked
// since, or never had a name.
func (k *Kernel) path(ctx context.Context, file remora.Addr) (string, error) {
	f, err := k.paths.do(ctx, k.learnPaths)
	if err != nil {
		return "", err
	}
	r := &pathReader{f, *k.reader(ctx)}
	name, err := r.of(file)
	if err != nil {
		return "", fmt.Errorf("the name of the file at %v: %w", file, err)
	}
	return name, nil
}

// deletedMark is what the kernel puts behind the name of a file that has none any more.
const deletedMark = " (deleted)"

// pathReader reads names of files.
type pathReader struct {
	*pathFields
	reader
}

// of gives the name of the struct file at a.
func (r *pathReader) of(file remora.Addr) (string, error) {
	at := file + remora.Addr(r.filePath.off)
	mnt, dentry := r.ptr(at, r.pathMount), r.ptr(at, r.pathDentry)
	if r.err != nil {
		return "", r.err
	}
	return r.climb(mnt, dentry)
}

// entry is a struct dentry.
type entry struct {
	parent remora.Addr
	name   string
	hashed bool
	read   []byte
}

func (r *pathReader) entry(a remora.Addr) (*entry, error) {
	if !isKernel(a) {
		return nil, fmt.Errorf("a struct dentry at %v: %w", a, remora.ErrCorrupt)
	}
	b, err := r.dentry.one(r.ctx, r.mem, a)
	if err != nil {
		return nil, err
	}
	n := r.dentry.uint(b, r.dLen)
	if n > maxName {
		return nil, fmt.Errorf("the struct dentry at %v has a name of %d bytes: %w", a, n, remora.ErrCorrupt)
	}
	name := make([]byte, n)
	if _, err := r.mem.ReadAt(r.ctx, name, r.dentry.ptr(b, r.dName)); err != nil {
		return nil, fmt.Errorf("the name in the struct dentry at %v: %w", a, err)
	}
	return &entry{parent: r.dentry.ptr(b, r.dParent), name: string(name), hashed: !r.dHash.has() || r.dentry.ptr(b, r.dHash) != 0, read: b}, nil
}

// climb goes from an entry to the root of all mounts (prepend_path in the kernel's
// fs/d_path.c, without the root of a process).
func (r *pathReader) climb(mnt, dentry remora.Addr) (string, error) {
	var names []string
	mark := ""
	whole := func() string {
		slices.Reverse(names)
		return "/" + strings.Join(names, "/") + mark
	}
	for range maxComponents {
		root := r.ptr(mnt, r.mountRoot)
		if r.err != nil {
			return "", r.err
		}
		if dentry == root {
			mount := mnt - remora.Addr(r.mount.off)
			up := r.ptr(mount, r.mountParent)
			dentry = r.ptr(mount, r.mountPoint)
			if r.err != nil {
				return "", r.err
			}
			if up == mount { // the root of all
				return whole(), nil
			}
			mnt = up + remora.Addr(r.mount.off)
			continue
		}
		e, err := r.entry(dentry)
		switch {
		case err != nil:
			return "", err
		case e.parent == dentry && len(names) == 0:
			return r.nameless(e), nil
		case e.parent == dentry: // in no directory of this mount
			return whole(), nil
		case len(names) == 0 && !e.hashed:
			mark = deletedMark
		}
		names, dentry = append(names, e.name), e.parent
	}
	return "", fmt.Errorf("it has more than %d directories: %w", maxComponents, remora.ErrCorrupt)
}

// nameless gives what the kernel says instead of the name of a file that is in no
// directory (the d_dname of its file system): shared memory, a pipe.
func (r *pathReader) nameless(e *entry) string {
	kind := ""
	if super := r.dentry.ptr(e.read, r.dSuper); r.superType.has() && r.typeName.has() && isKernel(super) {
		probe := reader{ctx: r.ctx, mem: r.mem, order: binary.LittleEndian}
		at := probe.ptr(probe.ptr(super, r.superType), r.typeName)
		if probe.err == nil {
			kind, _ = r.mem.CString(r.ctx, at, 32)
		}
		if node := r.dentry.ptr(e.read, r.dNode); (kind == "pipefs" || kind == "sockfs") && r.inodeNumber.has() {
			if n := probe.uint(node, r.inodeNumber); probe.err == nil {
				return fmt.Sprintf("%s:[%d]", map[string]string{"pipefs": "pipe", "sockfs": "socket"}[kind], n)
			}
		}
	}
	if kind == "anon_inodefs" {
		return "anon_inode:" + e.name
	}
	return "/" + e.name + deletedMark
}
