// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/btf"
	"github.com/remora-go/remora/sym"
)

// findTypes finds the BTF that the kernel keeps of itself: by its symbols, and where the
// kernel's table of symbols has those of functions alone, by what it looks like. Where
// there is none it is that of the file with the kernel's symbols.
func (k *Kernel) findTypes(ctx context.Context) (*Types, error) {
	t, err := k.typesInMemory(ctx)
	if err == nil || ctx.Err() != nil {
		return t, err
	}
	if path := k.hints.VMLinux; path != "" {
		of, why := k.typesOfFile(ctx, path)
		if why == nil {
			return of, nil
		}
		err = fmt.Errorf("%w; %w", err, why)
	}
	if path := k.hints.BTF; path != "" {
		b, why := os.ReadFile(path)
		if why == nil {
			if t, why = k.typesOf(ctx, path, b); why == nil {
				return t, nil
			}
		}
		err = fmt.Errorf("%w; %w", err, why)
	}
	return nil, &NoTypesError{err}
}

// typesInMemory finds the types in the memory of the kernel.
func (k *Kernel) typesInMemory(ctx context.Context) (*Types, error) {
	if _, err := k.Tables(ctx); err != nil {
		return nil, err
	}
	// BOUNDED_SECTION_BY(.BTF, _BTF) in the kernel's include/asm-generic/vmlinux.lds.h
	at, why := k.symbol(ctx, "__start_BTF")
	if why == nil {
		return k.typesAt(ctx, at, "at __start_BTF")
	}
	t, err := k.scanForBTF(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w; %w", why, err)
	}
	return t, nil
}

// typesOfFile reads the types of an ELF file of the kernel, which was found to be of this
// one when its symbols were read.
func (k *Kernel) typesOfFile(ctx context.Context, path string) (*Types, error) {
	if _, err := k.Symbols(ctx); err != nil {
		return nil, err
	}
	f, err := sym.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := f.Section(".BTF", btf.MaxSize)
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, fmt.Errorf("%s has no section .BTF: %w", path, errors.ErrUnsupported)
	}
	return k.typesOf(ctx, path, b)
}

// typesOf gives the types in the BTF of a file.
func (k *Kernel) typesOf(ctx context.Context, path string, b []byte) (*Types, error) {
	data, err := btf.Open(ctx, path, uint64(len(b)), func(_ context.Context, p []byte, off uint32) error {
		copy(p, b[off:])
		return nil
	}, nil)
	if err != nil {
		return nil, err
	}
	return newTypes(k, data, "in "+path), nil
}

// typesAt gives the types whose BTF is in the kernel's memory at a.
func (k *Kernel) typesAt(ctx context.Context, a remora.Addr, how string) (*Types, error) {
	data, err := btf.Open(ctx, "the kernel's BTF", btf.MaxSize, k.readBTF(a), nil)
	if err != nil {
		return nil, err
	}
	return newTypes(k, data, how), nil
}

// readBTF gives what reads the BTF at a.
func (k *Kernel) readBTF(a remora.Addr) btf.Read {
	return func(ctx context.Context, p []byte, off uint32) error {
		_, err := k.mem.ReadAt(ctx, p, a+remora.Addr(off))
		return err
	}
}

// magicOfBTF begins BTF of the byte order that all these machines have.
const magicOfBTF = "\x9f\xeb\x01\x00"

// scanForBTF looks for BTF in the image of the kernel. There are copies elsewhere in
// memory: what the kernel was unpacked from, and the file that it was read out of.
func (k *Kernel) scanForBTF(ctx context.Context) (t *Types, err error) {
	err = k.overImage(ctx, "BTF, which a kernel made with CONFIG_DEBUG_INFO_BTF=y has,", len(magicOfBTF)-1, func(at remora.Addr, b []byte) bool {
		for {
			i := bytes.Index(b, []byte(magicOfBTF))
			if i < 0 {
				return false
			}
			if t = k.tryBTF(ctx, at+remora.Addr(i)); t != nil {
				return true
			}
			at, b = at+remora.Addr(i)+1, b[i+1:]
		}
	})
	return t, err
}

// tryBTF takes what is at an address for the BTF of a kernel.
func (k *Kernel) tryBTF(ctx context.Context, a remora.Addr) *Types {
	t, err := k.typesAt(ctx, a, fmt.Sprintf("found at %v in the kernel's image", a))
	if err != nil {
		return nil
	}
	var pid, comm field
	if t.fields(ctx, wanted{&pid, "task_struct.pid", false}, wanted{&comm, "task_struct.comm", false}) != nil {
		return nil
	}
	return t
}
