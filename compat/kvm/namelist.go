// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"fmt"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
)

// namelist is a file with symbols. It is read anew for each look-up, as nlist(3ELF)
// does: nothing of it is kept.
type namelist struct{ path string }

// rank orders symbols of one name: the larger one is taken.
func rank(s *sym.Symbol) int {
	switch {
	case s.Module != "":
		return 1
	case s.Type >= 'a':
		return 2
	}
	return 3
}

// openNamelist makes sure that path has symbols.
func openNamelist(path string) (*namelist, error) {
	n := &namelist{path}
	f, err := sym.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for _, err := range f.All() {
		if err != nil {
			return nil, err
		}
		return n, nil
	}
	return nil, n.empty()
}

func (n *namelist) empty() error {
	return &remora.FormatError{File: n.path, Want: "symbols", Got: "none", Err: remora.ErrUnrecognized}
}

// find looks up the names of list.
func (n *namelist) find(ctx context.Context, list []Nlist) error {
	ranks := make([]int, len(list))
	wanted := map[string][]int{}
	for i := range list {
		wanted[list[i].Name] = append(wanted[list[i].Name], i)
	}
	f, err := sym.Open(n.path)
	if err != nil {
		return err
	}
	defer f.Close()
	count, hidden := 0, true
	for s, err := range f.All() {
		if err != nil {
			return err
		}
		if count++; count%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		hidden = hidden && s.Addr == 0
		for _, i := range wanted[s.Name] {
			if r := rank(&s); r > ranks[i] {
				ranks[i] = r
				list[i].Value, list[i].Size, list[i].Type = s.Addr, s.Size, s.Type
			}
		}
	}
	switch {
	case count == 0:
		return n.empty()
	case hidden:
		return fmt.Errorf("%s: every address is 0: the kernel hides them from this process (kernel.kptr_restrict, CAP_SYSLOG): %w",
			n.path, os.ErrPermission)
	}
	return nil
}
