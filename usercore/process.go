// SPDX-License-Identifier: Apache-2.0

package usercore

import (
	"debug/elf"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
)

// Process is what the notes say about the process. What they do not say is zero.
type Process struct {
	PID     int64
	PPID    int64 // the kernel records the thread of the parent that made the process
	UID     uint32
	GID     uint32
	Command string // the name of the executable, cut to 15 bytes by the kernel
	Args    string // the command line, cut to 79 bytes by the kernel
	Signal  Signal
}

// Signal is what stopped the process.
type Signal struct {
	Number int32
	Code   int32       // si_code: SEGV_MAPERR and the like
	Addr   remora.Addr // si_addr of SIGILL, SIGTRAP, SIGBUS, SIGFPE and SIGSEGV when the kernel raised it, else 0
}

// Process gives what the notes say about the process.
func (c *Core) Process() Process { return c.process }

// psInfo decodes struct elf_prpsinfo (include/uapi/linux/elfcore.h). Its end is the
// same everywhere; uid and gid are 2 bytes on some 32-bit machines.
func (c *Core) psInfo(b []byte) string {
	const pids, command, args = 112, 96, 80 // from the end
	idSize := 4
	switch {
	case len(b) == 124:
		idSize = 2
	case len(b) < 128:
		return "NT_PRPSINFO"
	}
	at := len(b) - pids
	order := c.file.Order()
	p := &c.process
	p.PID, p.PPID = int64(int32(order.Uint32(b[at:]))), int64(int32(order.Uint32(b[at+4:])))
	if idSize == 2 {
		p.UID, p.GID = uint32(order.Uint16(b[at-4:])), uint32(order.Uint16(b[at-2:]))
	} else {
		p.UID, p.GID = order.Uint32(b[at-8:]), order.Uint32(b[at-4:])
	}
	p.Command, p.Args = text(b[len(b)-command:len(b)-args]), strings.TrimRight(text(b[len(b)-args:]), " ") // NULs became spaces
	return ""
}

// sigInfo decodes siginfo_t. On MIPS code comes before errno.
func (c *Core) sigInfo(b []byte) string {
	addr := 12
	if c.file.Wide() {
		addr = 16
	}
	if len(b) < addr+c.file.WordSize() {
		return "NT_SIGINFO"
	}
	order := c.file.Order()
	code := 8
	if c.file.Machine == elf.EM_MIPS {
		code = 4
	}
	s := &c.process.Signal
	s.Number, s.Code = int32(order.Uint32(b)), int32(order.Uint32(b[code:]))
	switch s.Number {
	case 4, 5, 7, 8, 10, 11: // a fault; 10 is SIGBUS on MIPS and SPARC
		if s.Code > 0 && s.Code < 0x80 && (s.Number != 10 || c.file.Machine == elf.EM_MIPS) {
			s.Addr = remora.Addr(c.file.Word(b[addr:]))
		}
	}
	return ""
}

// signalNames are those of Linux on all machines but Alpha, MIPS, PA-RISC and
// SPARC (include/uapi/asm-generic/signal.h).
var signalNames = [...]string{1: "SIGHUP", "SIGINT", "SIGQUIT", "SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE",
	"SIGKILL", "SIGUSR1", "SIGSEGV", "SIGUSR2", "SIGPIPE", "SIGALRM", "SIGTERM", "SIGSTKFLT", "SIGCHLD", "SIGCONT",
	"SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGURG", "SIGXCPU", "SIGXFSZ", "SIGVTALRM", "SIGPROF", "SIGWINCH",
	"SIGIO", "SIGPWR", "SIGSYS"}

// signalName names a signal of the core's machine, by number alone if need be.
func (c *Core) signalName(n int32) string {
	switch c.file.Machine {
	case elf.EM_MIPS, elf.EM_PARISC, elf.EM_SPARC, elf.EM_SPARCV9, elf.EM_ALPHA:
	default:
		if n > 0 && int(n) < len(signalNames) {
			return signalNames[n] + " (" + strconv.Itoa(int(n)) + ")"
		}
	}
	return strconv.Itoa(int(n))
}

// Aux is one entry of the auxiliary vector that the kernel gave the process.
type Aux struct {
	Tag   uint64
	Value uint64
}

// Tags that mean something here (include/uapi/linux/auxvec.h).
const (
	auxPageSize = 6
	auxRandom   = 25
	auxVDSO     = 33 // AT_SYSINFO_EHDR
)

var auxNames = [...]string{2: "AT_EXECFD", "AT_PHDR", "AT_PHENT", "AT_PHNUM", "AT_PAGESZ", "AT_BASE", "AT_FLAGS",
	"AT_ENTRY", "AT_NOTELF", "AT_UID", "AT_EUID", "AT_GID", "AT_EGID", "AT_PLATFORM", "AT_HWCAP", "AT_CLKTCK",
	23: "AT_SECURE", "AT_BASE_PLATFORM", "AT_RANDOM", "AT_HWCAP2", "AT_RSEQ_FEATURE_SIZE", "AT_RSEQ_ALIGN", "AT_HWCAP3",
	"AT_HWCAP4", "AT_EXECFN", "AT_SYSINFO", "AT_SYSINFO_EHDR", 51: "AT_MINSIGSTKSZ"}

// Name gives the tag's name, "AT_PHDR", or its number where it has none here.
func (a Aux) Name() string {
	if a.Tag < uint64(len(auxNames)) && auxNames[a.Tag] != "" {
		return auxNames[a.Tag]
	}
	return strconv.FormatUint(a.Tag, 10)
}

// Auxv gives the auxiliary vector without the AT_NULL at its end. It is empty
// where the core has none.
func (c *Core) Auxv() []Aux { return append([]Aux(nil), c.auxv...) }

func (c *Core) readAuxv(b []byte) string {
	w := c.file.WordSize()
	for ; len(b) >= 2*w; b = b[2*w:] {
		a := Aux{Tag: c.file.Word(b), Value: c.file.Word(b[w:])}
		if a.Tag == 0 {
			return ""
		}
		c.auxv = append(c.auxv, a)
	}
	return "an NT_AUXV that ends with AT_NULL"
}

// auxValue gives the value of a tag, 0 if it is not there.
func (c *Core) auxValue(tag uint64) uint64 {
	for _, a := range c.auxv {
		if a.Tag == tag {
			return a.Value
		}
	}
	return 0
}
