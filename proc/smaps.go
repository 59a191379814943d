// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"bytes"
	"io"
	"iter"
	"strings"

	"github.com/remora-go/remora"
)

// Usage is one region with what of it is in memory, as /proc/PID/smaps tells it
// (proc_pid_smaps(5); show_smap in fs/proc/task_mmu.c). Amounts are in bytes; a
// field that the kernel did not write is 0.
type Usage struct {
	remora.Region

	PageSize    uint64 // of the kernel for this region: larger than MMUPageSize on some machines
	MMUPageSize uint64

	Rss            uint64 // in memory
	Pss            uint64 // in memory, each page divided by the number of its users
	PssDirty       uint64 // Linux 5.19
	SharedClean    uint64
	SharedDirty    uint64
	PrivateClean   uint64
	PrivateDirty   uint64
	Referenced     uint64
	Anonymous      uint64
	KSM            uint64 // merged by the kernel with equal pages; Linux 6.7
	LazyFree       uint64 // given up by MADV_FREE, not yet taken
	AnonHugePages  uint64
	ShmemHugePages uint64 // ShmemPmdMapped
	FileHugePages  uint64 // FilePmdMapped
	SharedHugetlb  uint64 // not part of Rss
	PrivateHugetlb uint64 // not part of Rss
	Swap           uint64
	SwapPss        uint64
	Locked         uint64

	VmFlags VmFlags
}

// VmFlags are the kernel's own flags of a region, from the VmFlags line.
type VmFlags uint64

// The flags, each with its two letters there. Kernels come and go with some of them.
const (
	VmRead        VmFlags = 1 << iota // rd
	VmWrite                           // wr
	VmExec                            // ex
	VmShared                          // sh
	VmMayRead                         // mr
	VmMayWrite                        // mw
	VmMayExec                         // me
	VmMayShare                        // ms
	VmGrowsDown                       // gd: a stack
	VmPFNMap                          // pf: pages without a struct page
	VmMaybeGuard                      // gu: may hold guard pages
	VmDenyWrite                       // dw
	VmLocked                          // lo
	VmIO                              // io: device memory
	VmSeqRead                         // sr: MADV_SEQUENTIAL
	VmRandRead                        // rr: MADV_RANDOM
	VmDontCopy                        // dc: MADV_DONTFORK
	VmDontExpand                      // de
	VmLockOnFault                     // lf
	VmAccount                         // ac
	VmNoReserve                       // nr: no swap reserved
	VmHugetlb                         // ht
	VmSync                            // sf: synchronous page faults
	VmNonLinear                       // nl
	VmArch1                           // ar
	VmWipeOnFork                      // wf
	VmDontDump                        // dd
	VmSoftDirty                       // sd
	VmMixedMap                        // mm
	VmHugePage                        // hg
	VmNoHugePage                      // nh
	VmMergeable                       // mg
	VmBTI                             // bt: arm64 branch target identification
	VmMTE                             // mt: arm64 memory tags
	VmMPX                             // mp
	VmUffdMissing                     // um
	VmUffdWP                          // uw: userfaultfd write protection
	VmUffdMinor                       // ui
	VmUffdRWP                         // ur: userfaultfd read and write protection
	VmShadowStack                     // ss
	VmSealed                          // sl
	VmDroppable                       // dp
	VmOther                           // one or more flags that are not known here

	vmFlagsEnd
)

const vmNames = "rdwrexshmrmwmemsgdpfgudwloiosrrrdcdelfacnrhtsfnlarwfddsdmmhgnhmgbtmtmpumuwuiursssldp??"

// String gives the letters of each flag, as the kernel does; ?? for VmOther.
func (f VmFlags) String() string {
	var names []string
	for i := 0; VmFlags(1)<<i < vmFlagsEnd; i++ {
		if f&(1<<i) != 0 {
			names = append(names, vmNames[2*i:2*i+2])
		}
	}
	return strings.Join(names, " ")
}

func vmFlag(word []byte) VmFlags {
	for i := 0; len(word) == 2 && 2*i < len(vmNames); i++ {
		if vmNames[2*i] == word[0] && vmNames[2*i+1] == word[1] {
			return 1 << i
		}
	}
	return VmOther
}

// ParseSmaps parses the text of /proc/PID/smaps as ParseMaps does maps. Fields
// that are not known here are passed over, and flags are kept as VmOther. It reads
// smaps_rollup too, whose one region is called [rollup].
func ParseSmaps(r io.Reader) iter.Seq2[Usage, error] {
	return func(yield func(Usage, error) bool) {
		l := lines{r: r, file: fileName(r, "smaps")}
		var u Usage
		for started := false; ; {
			line, err := l.next()
			switch {
			case err != nil:
			case started && isField(line):
				err = l.field(line, &u)
			default:
				if started && !yield(u, nil) {
					return
				}
				u = Usage{Region: remora.Region{Name: u.Name}}
				err, started = l.region(line, &u.Region), true
			}
			if err == nil {
				continue
			}
			if err != io.EOF {
				yield(Usage{}, err)
			} else if started {
				yield(u, nil)
			}
			return
		}
	}
}

// isField tells a field from the first line of a region: the kernel's fields begin
// with a capital letter, and its hexadecimal digits are never capital.
func isField(line []byte) bool { return len(line) > 0 && line[0] >= 'A' && line[0] <= 'Z' }

// field parses "Name:   value" into u.
func (l *lines) field(line []byte, u *Usage) error {
	name, value, ok := bytes.Cut(line, []byte(":"))
	if !ok {
		return l.malformed(line, 0, "a field name and a colon")
	}
	if string(name) == "VmFlags" {
		for len(value) > 0 {
			var word []byte
			word, value, _ = bytes.Cut(value, []byte(" "))
			if len(word) > 0 {
				u.VmFlags |= vmFlag(word)
			}
		}
		return nil
	}
	p := u.amount(name)
	if p == nil {
		return nil
	}
	c := cursor{line: line, col: len(line) - len(bytes.TrimLeft(value, " "))}
	at := c.col
	v := c.decimal()
	if v > ^uint64(0)>>10 {
		c.fail(at, "an amount below 2^64 bytes")
	}
	if c.want == "" && string(bytes.TrimRight(line[c.col:], " ")) != " kB" {
		c.fail(c.col, "the unit kB")
	}
	if c.want != "" {
		return l.malformed(line, c.col, c.want)
	}
	*p = v << 10
	return nil
}

// amount gives the place for a field, or nil where it is not kept.
func (u *Usage) amount(name []byte) *uint64 {
	switch string(name) {
	case "KernelPageSize":
		return &u.PageSize
	case "MMUPageSize":
		return &u.MMUPageSize
	case "Rss":
		return &u.Rss
	case "Pss":
		return &u.Pss
	case "Pss_Dirty":
		return &u.PssDirty
	case "Shared_Clean":
		return &u.SharedClean
	case "Shared_Dirty":
		return &u.SharedDirty
	case "Private_Clean":
		return &u.PrivateClean
	case "Private_Dirty":
		return &u.PrivateDirty
	case "Referenced":
		return &u.Referenced
	case "Anonymous":
		return &u.Anonymous
	case "KSM":
		return &u.KSM
	case "LazyFree":
		return &u.LazyFree
	case "AnonHugePages":
		return &u.AnonHugePages
	case "ShmemPmdMapped":
		return &u.ShmemHugePages
	case "FilePmdMapped":
		return &u.FileHugePages
	case "Shared_Hugetlb":
		return &u.SharedHugetlb
	case "Private_Hugetlb":
		return &u.PrivateHugetlb
	case "Swap":
		return &u.Swap
	case "SwapPss":
		return &u.SwapPss
	case "Locked":
		return &u.Locked
	}
	return nil
}
