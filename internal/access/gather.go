// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// maxAncestors ends a chain of parents that was read while it changed.
const maxAncestors = 4096

// Gather reads the facts about a task from a tree like /proc: os.DirFS("/proc"), or
// a captured one. What may not be read stays unknown; only the status file must be
// there. The task may change or be replaced meanwhile: the caller holds it by a pidfd.
//
// Dumpable is told from the owner of the task's files: the effective ids of a task
// that is dumpable, else root of the user namespace recorded in its memory
// (task_dump_owner in fs/proc/base.c; proc(5)). It cannot be told of a task that
// runs as that root itself: Dumpable is Unknown then. A dumpable task whose ids
// belong to root of a namespace between its own and the observer's is not recognized
// as ambiguous.
//
// The link to the user namespace may be read only by who may look into the task.
// For others a task whose ids are mapped one to one is taken to be in the initial
// namespace, if the observer is; else UserNS has no ID. Parent and Owner
// need an ioctl, and are left for the caller to fill in.
func Gather(root fs.FS, pid int) (Subject, error) {
	dir := strconv.Itoa(pid)
	text, err := readFile(root, dir+"/status")
	if err != nil {
		return Subject{}, err
	}
	var s Subject
	if s.Status, err = ParseStatus(text); err != nil {
		return Subject{}, fmt.Errorf("%s/%w", dir, err)
	}
	facts := GatherFacts(root)
	observer := facts.Observer
	s.UIDMap, s.GIDMap = idMap(root, dir+"/uid_map"), idMap(root, dir+"/gid_map")
	if s.UserNS = userNS(root, dir); s.UserNS == nil && s.UIDMap != nil {
		s.UserNS = &Namespace{}
		if observer.initial() && slices.Equal(s.UIDMap, []IDRange{{0, 0, 1<<32 - 1}}) {
			s.UserNS.ID = InitUserNS
		}
	}
	s.owner(root, dir)
	s.findDumpable(&facts)
	s.label(root, dir)
	for ppid := s.PPID; ppid > 0 && len(s.Ancestors) < maxAncestors; {
		s.Ancestors = append(s.Ancestors, ppid)
		text, err := readFile(root, strconv.Itoa(ppid)+"/status")
		if err != nil {
			break
		}
		parent, err := ParseStatus(text)
		if err != nil {
			break
		}
		ppid = parent.PPID
	}
	return s, nil
}

// GatherFacts reads from the same tree what does not depend on the two sides.
func GatherFacts(root fs.FS) Facts {
	f := Facts{Observer: userNS(root, "self")}
	if n, err := readNumber(root, "sys/kernel/overflowuid"); err == nil {
		f.Overflow = uint32(n)
	}
	n, err := readNumber(root, "sys/kernel/yama/ptrace_scope")
	f.Yama = n
	f.YamaUnseen = err != nil && !errors.Is(err, fs.ErrNotExist)
	return f
}

// readFile reads at most a little more than maxStatus bytes.
func readFile(root fs.FS, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxStatus+1))
}

func readNumber(root fs.FS, name string) (int, error) {
	text, err := readFile(root, name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// userNS reads the link /proc/PID/ns/user, "user:[4026531837]".
func userNS(root fs.FS, dir string) *Namespace {
	link, err := fs.ReadLink(root, dir+"/ns/user")
	if err != nil {
		return nil
	}
	number, ok := strings.CutPrefix(link, "user:[")
	id, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
	if !ok || err != nil || id == 0 {
		return nil
	}
	return &Namespace{ID: id}
}

// idMap reads uid_map or gid_map; nil when it cannot. Those who are not in the
// namespace see their own ids on the outside, those in it see its parent's.
func idMap(root fs.FS, name string) []IDRange {
	text, err := readFile(root, name)
	if err != nil {
		return nil
	}
	list := []IDRange{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil
		}
		var n [3]uint32
		for i := range n {
			v, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return nil
			}
			n[i] = uint32(v)
		}
		list = append(list, IDRange{n[0], n[1], n[2]})
	}
	return list
}

// rootOutside gives what root of the namespace is outside; false when it has none.
func rootOutside(ranges []IDRange) (uint32, bool) {
	for _, r := range ranges {
		if r.Inside == 0 && r.Count > 0 && r.Outside != 1<<32-1 {
			return r.Outside, true
		}
	}
	return 0, false
}

// owner takes the ids from what package os gives as FileInfo.Sys on Unix, a pointer
// to a struct with Uid and Gid, without importing package syscall.
func (s *Subject) owner(root fs.FS, dir string) {
	s.FileUnseen = true
	fi, err := fs.Stat(root, dir+"/mem")
	if err != nil {
		return
	}
	v := reflect.Indirect(reflect.ValueOf(fi.Sys()))
	if v.Kind() != reflect.Struct {
		return
	}
	uid, gid := v.FieldByName("Uid"), v.FieldByName("Gid")
	if uid.IsValid() && gid.IsValid() && uid.CanUint() && gid.CanUint() {
		s.FileUID, s.FileGID, s.FileUnseen = uint32(uid.Uint()), uint32(gid.Uint()), false
	}
}

// findDumpable compares the owner of the files with the effective ids.
func (s *Subject) findDumpable(facts *Facts) {
	observer := facts.Observer
	zero, mapped := rootOutside(s.UIDMap)
	if s.FileUnseen || !s.HasMemory {
		return
	}
	here := same(s.UserNS, observer) == Yes
	switch {
	case here && s.FileUID == 0 && (observer.initial() || mapped && zero != 0):
		s.MemoryNS = s.UserNS // where root above it is also 0, the two cannot be told apart
	case observer.initial() && mapped && zero != 0 && s.FileUID == zero:
		s.MemoryNS = s.UserNS
	case observer.initial() && mapped && zero != 0 && s.FileUID == 0:
		s.MemoryNS = observer
	}
	root := s.FileUID == 0 && s.FileGID == 0 || s.FileUID == zero && mapped && !here
	switch {
	case s.FileUID != s.UID.Effective || s.FileGID != s.GID.Effective:
		s.Dumpable = No
	case !root && (observer.initial() || s.FileUID != facts.overflow()):
		s.Dumpable = Yes
	}
}

// label reads what SELinux, AppArmor or Smack say of the task. Without such a
// module the file cannot be read, whoever asks (EINVAL).
func (s *Subject) label(root fs.FS, dir string) {
	text, err := readFile(root, dir+"/attr/current")
	switch {
	case err == nil:
		s.Label = strings.TrimRight(string(text), "\x00\n")
		s.LabelSeen = true
	case !errors.Is(err, fs.ErrPermission):
		s.LabelSeen = true
	}
}
