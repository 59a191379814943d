// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/remora-go/remora/paging"
)

// tablesFlag is the form of page tables: ARCH, and then what differs from one machine to
// the next, each behind a colon.
type tablesFlag struct {
	text string
	set  bool
	arch string
	n    int // levels, or bits of an address
	page int // size of a page, as a power of two
}

func (f *tablesFlag) String() string { return f.text }
func (f *tablesFlag) Type() string   { return "form" }
func (f *tablesFlag) Set(s string) error {
	words := strings.Split(s, ":")
	f.text, f.arch = s, words[0]
	most := 2
	switch f.arch {
	case "x86-64":
		f.n = 4
	case "arm64":
		f.n, f.page, most = 48, 12, 3
	case "riscv64":
		f.n = 48
	default:
		most = 0
	}
	bad := len(words) > most
	if len(words) > 1 && !bad {
		n, err := strconv.ParseUint(words[1], 10, 8)
		f.n, bad = int(n), err != nil
	}
	if len(words) > 2 && !bad {
		f.page = map[string]int{"4K": 12, "16K": 14, "64K": 16}[words[2]]
		bad = f.page == 0
	}
	if bad {
		return fmt.Errorf("want x86-64, x86-64:LEVELS, arm64:BITS, arm64:BITS:PAGE with 4K, 16K or 64K, or riscv64:BITS")
	}
	_, err := f.format(paging.Version{})
	f.set = err == nil
	return err
}

// format gives the format, as a kernel of a version writes it.
func (f *tablesFlag) format(v paging.Version) (*paging.Format, error) {
	switch f.arch {
	case "arm64":
		return paging.ARM64(paging.ARM64Options{PageShift: f.page, VABits: f.n, LPA2: f.n == 52 && f.page != 16, Kernel: v})
	case "riscv64":
		return paging.RISCV(paging.RISCVOptions{VABits: f.n, Kernel: v})
	}
	return paging.X86(paging.X86Options{Levels: f.n, Kernel: v})
}
