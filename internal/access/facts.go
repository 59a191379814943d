// SPDX-License-Identifier: Apache-2.0

package access

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// IDs are the four user or group ids of a task, as its observer sees them.
type IDs struct{ Real, Effective, Saved, FS uint32 }

// Caps is a set of capabilities, bit n for capability n (linux/capability.h).
type Caps uint64

// The capabilities that matter here.
const (
	CapDACOverride   Caps = 1 << 1
	CapDACReadSearch Caps = 1 << 2
	CapSysPtrace     Caps = 1 << 19
)

var capNames = strings.Fields(`chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap
	linux_immutable net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio
	sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time sys_tty_config mknod lease
	audit_write audit_control setfcap mac_override mac_admin syslog wake_alarm block_suspend audit_read perfmon
	bpf checkpoint_restore`)

// String lists the names as setcap(8) wants them: cap_net_raw,cap_sys_ptrace.
func (c Caps) String() string {
	var names []string
	for i := range 64 {
		switch {
		case c&(1<<i) == 0:
		case i < len(capNames):
			names = append(names, "cap_"+capNames[i])
		default:
			names = append(names, strconv.Itoa(i))
		}
	}
	return strings.Join(names, ",")
}

// brief is String, cut short where there are many.
func (c Caps) brief() string {
	const most = 4
	if n := bits.OnesCount64(uint64(c)); n > most {
		names := strings.SplitN(c.String(), ",", most+1)
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ","), n-most)
	}
	return c.String()
}

// InitUserNS is the number of the initial user namespace (PROC_USER_INIT_INO).
const InitUserNS = 4026531837

// Namespace is a user namespace.
type Namespace struct {
	ID         uint64     // the number in the link /proc/PID/ns/user; 0: not known
	Parent     *Namespace // nil: not known, or there is none
	Owner      uint32     // effective uid of its creator (NS_GET_OWNER_UID, ioctl_ns(2))
	OwnerKnown bool
}

func (n *Namespace) initial() bool { return n != nil && n.ID == InitUserNS }

// same says whether two namespaces are one.
func same(a, b *Namespace) Answer {
	if a == nil || b == nil || a.ID == 0 || b.ID == 0 {
		return Unknown
	}
	return answer(a.ID == b.ID)
}

// IDRange is a line of uid_map or gid_map: so many ids from Inside on are, outside, those from Outside
// on (user_namespaces(7)).
type IDRange struct{ Inside, Outside, Count uint32 }

func mapped(ranges []IDRange, outside uint32) bool {
	for _, r := range ranges {
		if outside >= r.Outside && outside-r.Outside < r.Count {
			return true
		}
	}
	return false
}

// Subject is one side: a task, what it may do and what protects it.
type Subject struct {
	Status

	UserNS    *Namespace // of its credentials; nil: not known
	UIDMap    []IDRange  // of UserNS; counts for a caller in another namespace than the observer's
	GIDMap    []IDRange
	Ancestors []int  // process ids of its parents, nearest first, as far as known
	Label     string // of SELinux, AppArmor or Smack; empty where there is none
	LabelSeen bool   // Label is known

	// Of a target alone.
	Dumpable   Answer
	MemoryNS   *Namespace // the user namespace recorded in its memory at execve; nil: not known
	FileUID    uint32     // the owner of /proc/PID/mem
	FileGID    uint32
	FileUnseen bool // the owner is not known
}

// Facts is what matters besides the two sides.
type Facts struct {
	Observer *Namespace // the user namespace in which ids and owners were read; nil: not known
	Overflow uint32     // the id that stands for those without a mapping; 0 means 65534

	Yama       int  // kernel.yama.ptrace_scope; 0 where there is no Yama
	YamaUnseen bool // it is not known

	// SharesMemory says that the two run in one address space without being of one
	// thread group (CLONE_VM, vfork). Unknown is taken for No: such pairs are rare, and
	// cannot be seen without kcmp(2).
	SharesMemory Answer

	// SelfCall says whether the caller can use process_vm_readv on itself. No means
	// that a filter refuses the call whatever the target.
	SelfCall Answer
}

// sameID compares two user or group ids of different sources. Both may stand for
// something without a mapping, and then they need not be the same; in the initial
// namespace everything has a mapping.
func (f *Facts) sameID(a, b uint32) Answer {
	if a == b && a == f.overflow() && !f.Observer.initial() {
		return Unknown
	}
	return answer(a == b)
}

func (f *Facts) overflow() uint32 {
	if f.Overflow == 0 {
		return 65534
	}
	return f.Overflow
}

// fileMapped says whether the ids that own target's files have a mapping in the
// namespace of s, without which no capability reaches them (capable_wrt_inode_uidgid).
func (f *Facts) fileMapped(s, target *Subject) Answer {
	switch {
	case s.UserNS.initial():
		return Yes
	case target.FileUnseen:
		return Unknown
	case same(f.Observer, s.UserNS) == Yes:
		if target.FileUID != f.overflow() && target.FileGID != f.overflow() {
			return Yes
		}
	case f.Observer.initial() && s.UserNS != nil && s.UIDMap != nil:
		return answer(mapped(s.UIDMap, target.FileUID) && mapped(s.GIDMap, target.FileGID))
	}
	return Unknown
}

// capable says whether s has the capability in ns: it is effective there, or in a
// namespace above, or s created the one below its own (cap_capable in
// security/commoncap.c; user_namespaces(7)).
func (f *Facts) capable(s *Subject, ns *Namespace, c Caps) Answer {
	has := s.Effective&c != 0
	if has && s.UserNS.initial() {
		return Yes
	}
	owner := No // of the namespace just below the caller's
	for n := ns; ; n = n.Parent {
		switch in := same(n, s.UserNS); {
		case in == Unknown:
			return Unknown
		case in == Yes:
			return either(owner, answer(has))
		case n.initial():
			return No
		case n.Parent == nil:
			return Unknown
		}
		owner = Unknown
		if n.OwnerKnown {
			owner = f.sameID(n.Owner, s.UID.Effective)
		}
	}
}

// capableOfMemory is capable for the namespace recorded in the target's memory.
// Where that is not known, it is the target's own or one above it: credentials
// move to a namespace below, never up (setns(2)).
func (f *Facts) capableOfMemory(s, target *Subject, c Caps) Answer {
	if target.MemoryNS != nil {
		return f.capable(s, target.MemoryNS, c)
	}
	sum := f.capable(s, target.UserNS, c)
	for n := target.UserNS; n != nil && !n.initial(); n = n.Parent {
		if f.capable(s, n.Parent, c) != sum {
			return Unknown
		}
	}
	return sum
}
