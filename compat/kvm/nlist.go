// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/remora-go/remora"
)

// Nlist is one name for NList to look up: struct nlist of nlist(3ELF).
type Nlist struct {
	Name  string      // set by the caller
	Value remora.Addr // as the namelist has it: 0 where there is no such symbol
	Size  uint64      // in bytes, 0 where it is not known
	Type  byte        // the letter of nm(1), '?' where it is not known, 0 where there is no such symbol
}

// NList is kvm_nlist(3KVM): it looks up the names of list, up to the first that is
// empty, and gives the number of those that it did not find; or -1 and an error when
// the symbols cannot be read at all (R103). Of several symbols of one name it takes a
// global one of the kernel itself, else a local one, else one of a module.
//
// The values are those of the namelist. A System.map and an ELF file have the
// addresses that the kernel was linked for, which is not where a kernel with a random
// base runs.
func (h *Handle) NList(ctx context.Context, list []Nlist) (int, error) {
	const name = "kvm_nlist"
	if h.closed {
		return -1, fail(name, fs.ErrClosed)
	}
	for i := range list {
		if list[i].Name == "" {
			list = list[:i]
			break
		}
	}
	reset(list)
	if err := h.look(ctx, list); err != nil {
		reset(list)
		return -1, fail(name, err)
	}
	missing := 0
	for i := range list {
		if list[i].Type == 0 {
			missing++
		}
	}
	return missing, nil
}

// reset leaves nothing in list but the names.
func reset(list []Nlist) {
	for i := range list {
		list[i] = Nlist{Name: list[i].Name}
	}
}

// looker is an Image that looks names up itself.
type looker interface {
	look(ctx context.Context, list []Nlist) error
}

// look looks up list where the symbols are.
func (h *Handle) look(ctx context.Context, list []Nlist) error {
	if h.names != nil {
		return h.names.find(ctx, list)
	}
	if l, ok := remora.As[looker](h.img); ok {
		return l.look(ctx, list)
	}
	if s, ok := remora.As[remora.Symbolizer](h.img); ok {
		return ask(ctx, s, list)
	}
	return fmt.Errorf("this image has no symbols of its own, and no namelist was given: %w", errors.ErrUnsupported)
}

// hasSymbols says whether an image has symbols of its own.
func hasSymbols(img Image) bool {
	_, ok := remora.As[remora.Symbolizer](img)
	return ok
}

// ask looks the names up in an image.
func ask(ctx context.Context, s remora.Symbolizer, list []Nlist) error {
	for i := range list {
		found, err := s.Symbol(ctx, list[i].Name)
		if err != nil {
			return err
		}
		best := -1
		for j := range found {
			if best < 0 || found[best].Module != "" && found[j].Module == "" {
				best = j
			}
		}
		if best >= 0 {
			list[i].Value, list[i].Size, list[i].Type = found[best].Addr, found[best].Size, '?'
		}
	}
	return nil
}
