// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/sym"
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
		list[i] = Nlist{Name: list[i].Name}
	}
	var err error
	if names := h.namelist(); names != nil {
		err = names.find(ctx, list)
	} else if s, ok := remora.As[typed](h.img); ok {
		err = look(ctx, s, list)
	} else if s, ok := remora.As[remora.Symbolizer](h.img); ok {
		err = ask(ctx, s, list)
	} else {
		err = fmt.Errorf("this image has no symbols of its own, and no namelist was given: %w", errors.ErrUnsupported)
	}
	if err != nil {
		for i := range list {
			list[i] = Nlist{Name: list[i].Name}
		}
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

// listed is an Image whose symbols are a text of their own.
type listed interface{ namelist() *namelist }

// namelist gives the file or text with the symbols, nil where there is none.
func (h *Handle) namelist() *namelist {
	if h.names != nil {
		return h.names
	}
	if l, ok := remora.As[listed](h.img); ok {
		return l.namelist()
	}
	return nil
}

// hasSymbols says whether an image has symbols of its own.
func hasSymbols(img Image) bool {
	_, ok := remora.As[remora.Symbolizer](img)
	return ok
}

// typed is an Image that knows what symbols are.
type typed interface {
	find(ctx context.Context, name string) ([]sym.Symbol, error)
}

// look looks the names up in a typed image.
func look(ctx context.Context, s typed, list []Nlist) error {
	for i := range list {
		found, err := s.find(ctx, list[i].Name)
		if err != nil {
			return err
		}
		best := -1
		for j := range found {
			if best < 0 || rank(&found[j]) > rank(&found[best]) {
				best = j
			}
		}
		if best >= 0 {
			list[i].Value, list[i].Size, list[i].Type = found[best].Addr, found[best].Size, found[best].Type
		}
	}
	return nil
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
