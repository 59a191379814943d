// SPDX-License-Identifier: Apache-2.0

package btf

import (
	"errors"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testimage"
	"github.com/remora-go/remora/memtest"
)

// FuzzTypes asks of any bytes all there is to ask of BTF.
func FuzzTypes(f *testing.F) {
	kernel := sample(&testimage.BTF{})
	f.Add(kernel.Bytes(), []byte(nil))
	f.Add(sample(&testimage.BTF{BigEndian: true, Header: 32}).Bytes(), []byte(nil))
	module := &testimage.BTF{FirstType: kernel.Count(), FirstText: kernel.TextSize()}
	module.Struct("own", 8, member("x", 1, 0), member("", module.Count(), 0))
	f.Add(kernel.Bytes(), module.Bytes())
	loop := &testimage.BTF{}
	loop.Typedef("t", 1)
	loop.Struct("s", 4, member("", 2, 0), member("", 2, 0))
	loop.Array(3, 4)
	loop.Add("", 13<<24|1, 4, 0, 4)
	f.Add(loop.Bytes(), []byte(nil))
	f.Fuzz(func(t *testing.T, kernel, module []byte) {
		if len(kernel) > 1<<16 || len(module) > 1<<16 {
			return
		}
		ask(t, kernel, nil, len(module) == 0)
		if base, err := Open(t.Context(), "kernel", uint64(len(kernel)), (&source{data: kernel}).at, nil); err == nil && len(module) != 0 {
			ask(t, module, base, true)
		}
	})
}

// ask asks; what is wrong must be said so, and nothing may take long.
func ask(t *testing.T, data []byte, base *Types, all bool) {
	types, err := Open(t.Context(), "test", uint64(len(data)), (&source{data: data}).at, base)
	check := func(err error) bool {
		if err != nil && !errors.Is(err, remora.ErrCorrupt) && !errors.Is(err, remora.ErrUnrecognized) {
			t.Fatalf("got %v", err)
		}
		return err == nil
	}
	if !check(err) || !all {
		return
	}
	mem := remora.New(memtest.NewSparse(nil))
	n, err := types.Len(t.Context())
	check(err)
	for id := range min(n, 300) {
		d, err := types.Type(t.Context(), id)
		if !check(err) {
			continue
		}
		_, err = types.Decl(t.Context(), id, "x")
		check(err)
		_, err = types.SizeOf(t.Context(), id)
		check(err)
		_, err = types.Values(t.Context(), d)
		check(err)
		_, _, err = types.Find(t.Context(), d, "x.y")
		check(err)
		if id < 40 {
			_, err = types.Layout(t.Context(), d)
			check(err)
			_, err = types.Read(t.Context(), mem, 0x1000, Member{Type: id}, nil)
			check(err)
		}
		for _, err := range types.Named(t.Context(), d.Name, d.Kind) {
			check(err)
			break
		}
	}
}
