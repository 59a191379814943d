// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"time"

	"github.com/remora-go/remora/internal/sys/linux"
)

// maxCache is how much of the disk the cache may hold, in bytes, before old entries go.
const maxCache = 24 << 30

// cache is a directory of directories, each made once and then read only.
type cache struct{ dir string }

// openCache gives the cache of this user.
func openCache() (cache, error) {
	dir := os.Getenv("REMORA_LAB")
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return cache{}, err
		}
		dir = filepath.Join(user, "remora-vmlab")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return cache{}, err
	}
	return cache{dir}, os.MkdirAll(dir, 0o755)
}

// lock holds an entry for this process until the function it gives is called.
func (c cache) lock(name string) (func(), error) {
	path := filepath.Join(c.dir, name+".lock")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if e := linux.Lock(f); e != linux.OK {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, e)
	}
	return func() { f.Close() }, nil
}

// entry gives the path of an entry, which make fills if it is not there. Other
// processes wait meanwhile; what fails leaves nothing behind.
func (c cache) entry(name string, make func(path string) error) (string, error) {
	path := filepath.Join(c.dir, name)
	if _, err := os.Stat(path); err == nil {
		now := time.Now()
		os.Chtimes(path, now, now)
		return path, nil
	}
	unlock, err := c.lock(name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	leftovers, _ := filepath.Glob(path + ".new*")
	for _, l := range leftovers { // of one that was killed: we hold the lock
		os.RemoveAll(l)
	}
	fresh := path + ".new"
	if err := make(fresh); err != nil {
		os.RemoveAll(fresh)
		return "", err
	}
	return path, os.Rename(fresh, path)
}

// prune removes the entries of a kind that were not used for longest, until the whole
// is no larger than max bytes. What another process holds is left.
func (c cache) prune(kind string, max int64) error {
	type old struct {
		name string
		size int64
		used time.Time
	}
	var all []old
	var total int64
	dirs, err := os.ReadDir(filepath.Join(c.dir, kind))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		info, err := d.Info()
		if err != nil || !d.IsDir() {
			continue
		}
		name := filepath.Join(kind, d.Name())
		size := sizeOf(filepath.Join(c.dir, name))
		total += size
		all = append(all, old{name, size, info.ModTime()})
	}
	sort.Slice(all, func(i, j int) bool { return all[i].used.Before(all[j].used) })
	for _, o := range all {
		if total <= max {
			break
		}
		if time.Since(o.used) < time.Hour {
			break // it may be in use
		}
		if c.remove(o.name) {
			total -= o.size
		}
	}
	return nil
}

// remove removes an entry that nobody is making.
func (c cache) remove(name string) bool {
	f, err := os.OpenFile(filepath.Join(c.dir, name+".lock"), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return false
	}
	defer f.Close()
	if linux.TryLock(f) != linux.OK {
		return false
	}
	return os.RemoveAll(filepath.Join(c.dir, name)) == nil
}

// sizeOf gives the bytes that files of a directory say they have.
func sizeOf(dir string) (n int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			n += linux.BytesOnDisk(info)
		}
		return nil
	})
	return n
}

// exists says whether a file is there.
func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
