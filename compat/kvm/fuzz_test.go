// SPDX-License-Identifier: Apache-2.0

package kvm

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/remora-go/remora/internal/testimage"
)

func FuzzStat(f *testing.F) {
	for _, s := range []string{"", "1 (", stat("cat"), stat(") ("), "1 (x) S 1 2 3"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := parseStat("stat", b); (p == nil) == (err == nil) {
			t.Errorf("%+v, %v", p, err)
		}
	})
}

func FuzzNamelist(f *testing.F) {
	f.Add([]byte(systemMap))
	f.Add([]byte(kallsyms))
	f.Add(testimage.ELFSymbols(binary.BigEndian, []testimage.ELFSymbol{{Name: "x", Value: 1, Info: 0x10, Section: 1}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "names")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		n := namelist{path}
		list := []Nlist{{Name: "_stext"}, {Name: "x"}}
		n.find(t.Context(), list)
		if _, err := openNamelist(path); err != nil && list[0].Type|list[1].Type != 0 {
			t.Errorf("%+v out of a file without symbols: %v", list, err)
		}
	})
}
