// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
)

// kept is what takes long to make, and is made once for all sets of processes.
type kept struct {
	dir  string
	made map[string]bool
}

// keep gives a directory that a function has filled, now or before. It stays until the benchmark ends.
func (s *site) keep(name string, fill func(dir string) error) (string, error) {
	k := s.kept
	if k.dir == "" {
		dir, err := os.MkdirTemp("", "remora-bench-kept-")
		if err != nil {
			return "", err
		}
		k.dir, k.made = dir, map[string]bool{}
	}
	dir := filepath.Join(k.dir, name)
	if k.made[name] {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	err := fill(dir)
	k.made[name] = err == nil
	return dir, err
}

// close removes all that is kept.
func (k *kept) close() error {
	if k.dir == "" {
		return nil
	}
	return os.RemoveAll(k.dir)
}
