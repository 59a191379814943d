// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/remora-go/remora/btf"
)

// Type is a type of the kernel or of one of its modules.
type Type struct {
	btf.Type
	In *btf.Types
}

// Lookup gives the types of a name in their order, those of the kernel first: "list_head",
// or with the kind of type before it "struct list_head". Modules are looked into where the
// kernel itself has none; the error is what could not be read of them, where that may be why
// there is none.
func (t *Types) Lookup(ctx context.Context, name string) iter.Seq2[Type, error] {
	kinds := []btf.Kind{btf.Struct, btf.Union, btf.Enum, btf.Enum64, btf.Typedef, btf.Int, btf.Float}
	if word, rest, ok := strings.Cut(name, " "); ok {
		if of, ok := map[string][]btf.Kind{"struct": kinds[:1], "union": kinds[1:2], "enum": kinds[2:4]}[word]; ok {
			kinds, name = of, strings.TrimSpace(rest)
		}
	}
	return func(yield func(Type, error) bool) {
		none := true
		for d, err := range t.data.Named(ctx, name, kinds...) {
			none = false
			if !yield(Type{d, t.data}, err) || err != nil {
				return
			}
		}
		if !none {
			return
		}
		var lost error
		for in, err := range t.Modules(ctx) {
			if err != nil {
				if !errors.Is(err, errors.ErrUnsupported) { // a kernel may keep none of modules
					lost = err
				}
				continue
			}
			for d, err := range in.Named(ctx, name, kinds...) {
				none = false
				if !yield(Type{d, in}, err) || err != nil {
					return
				}
			}
		}
		if none && lost != nil {
			yield(Type{}, fmt.Errorf("the kernel itself has no type %.100q, and not all types of modules could be read: %w", name, lost))
		}
	}
}
