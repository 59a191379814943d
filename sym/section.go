// SPDX-License-Identifier: Apache-2.0

package sym

import (
	"debug/elf"
	"fmt"
)

// Section reads a section of an ELF file, of at most so many bytes. It gives nil where
// there is none of the name.
func (s *File) Section(name string, most uint64) ([]byte, error) {
	if s.elf == nil {
		return nil, nil
	}
	sec := s.elf.Section(name)
	switch {
	case sec == nil || sec.Type == elf.SHT_NOBITS:
		return nil, nil
	case sec.Flags&elf.SHF_COMPRESSED != 0:
		return nil, s.bad(int64(sec.Offset), fmt.Sprintf("a section %s that is not compressed", name), "a compressed one")
	}
	return s.contents(sec.Offset, sec.Size, most)
}
