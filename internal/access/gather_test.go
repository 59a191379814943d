// SPDX-License-Identifier: Apache-2.0

package access

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

const statusText = "Name:\ta\\nb\\\\c: d\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t40\nNgid:\t0\nPid:\t41\nPPid:\t30\nTracerPid:\t9\n" +
	"Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nFDSize:\t64\nGroups:\t \nNStgid:\t40\t1\nNSpid:\t41\t2\nKthread:\t0\nVmPeak:\t    3060 kB\nVmSize:\t    3060 kB\n" +
	"CapInh:\t0000000000000000\nCapPrm:\t0000000000082000\nCapEff:\t0000000000080000\nSeccomp:\t2\nFuture:\tyes\n"

func TestParseStatus(t *testing.T) {
	got, err := ParseStatus([]byte(statusText))
	if err != nil {
		t.Fatal(err)
	}
	want := Status{Name: "a\nb\\c: d", State: 'S', PID: 41, Tgid: 40, PPID: 30, TracerPID: 9,
		UID: IDs{1, 2, 3, 4}, GID: IDs{5, 6, 7, 8}, Permitted: CapSysPtrace | 1<<13, Effective: CapSysPtrace,
		Seccomp: 2, NSpid: []int{41, 2}, HasMemory: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseStatusRefusesMalformedText(t *testing.T) {
	replace := func(old, new string) string { return strings.Replace(statusText, old, new, 1) }
	for want, text := range map[string]string{
		"no colon":        replace("Uid:", "Uid"),
		"no Uid":          replace("Uid:", "Uidx:"),
		"no CapPrm":       replace("CapPrm:", "CapPrx:"),
		"too few numbers": replace("1\t2\t3\t4", "1\t2\t3"),
		"Gid: ":           replace("5\t6", "5\t-6"),
		"CapEff: ":        replace("0000000000080000", "x"),
		"Pid: ":           replace("Pid:\t41", "Pid:\t"),
		"not a state":     replace("S (sleeping)", ""),
		"NSpid: ":         replace("NSpid:\t41", "NSpid:\tx"),
		"64 KiB":          statusText + strings.Repeat("x", maxStatus),
	} {
		if _, err := ParseStatus([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
}

// tree builds a /proc with tasks in it.
type tree struct{ fstest.MapFS }

type fileOwner struct{ Uid, Gid uint32 }

func newTree(observer string) tree {
	return tree{fstest.MapFS{
		"self/ns/user":           {Data: []byte(observer), Mode: fs.ModeSymlink},
		"sys/kernel/overflowuid": {Data: []byte("65534\n")},
	}}
}

const (
	initLink = "user:[4026531837]"
	oneToOne = "         0          0 4294967295\n"
)

// task adds one; an empty link stands for one that may not be read.
func (tr tree) task(pid, ppid int, uid, gid uint32, owner fileOwner, link, maps string) {
	dir := fmt.Sprint(pid)
	tr.MapFS[dir+"/status"] = &fstest.MapFile{Data: fmt.Appendf(nil,
		"Name:\tt\nState:\tS (sleeping)\nTgid:\t%d\nPid:\t%d\nPPid:\t%d\nUid:\t%d\t%d\t%d\t%d\nGid:\t%d\t%d\t%d\t%d\nVmSize:\t4 kB\nCapPrm:\t0\nCapEff:\t0\n",
		pid, pid, ppid, uid, uid, uid, uid, gid, gid, gid, gid)}
	tr.MapFS[dir+"/mem"] = &fstest.MapFile{Mode: 0o600, Sys: &owner}
	tr.MapFS[dir+"/uid_map"] = &fstest.MapFile{Data: []byte(maps)}
	tr.MapFS[dir+"/gid_map"] = &fstest.MapFile{Data: []byte(maps)}
	if link != "" {
		tr.MapFS[dir+"/ns/user"] = &fstest.MapFile{Data: []byte(link), Mode: fs.ModeSymlink}
	}
}

func TestGatherDumpable(t *testing.T) {
	const child, mapped, fromZero = "user:[5]", "0 100000 1000\n", "0 0 1000\n"
	for _, c := range []struct {
		name           string
		observer, link string
		maps           string
		euid, egid     uint32
		owner          fileOwner
		want           Answer
		memory         uint64 // 0: not known
	}{
		{"files are its own", initLink, initLink, oneToOne, 1000, 1000, fileOwner{1000, 1000}, Yes, 0},
		{"files are root's", initLink, initLink, oneToOne, 1000, 1000, fileOwner{0, 0}, No, InitUserNS},
		{"only the group differs", initLink, initLink, oneToOne, 0, 7, fileOwner{0, 0}, No, InitUserNS},
		{"root with another group", initLink, initLink, oneToOne, 0, 7, fileOwner{0, 7}, Yes, InitUserNS},
		{"it is root", initLink, initLink, oneToOne, 0, 0, fileOwner{0, 0}, Unknown, InitUserNS},
		{"nobody", initLink, initLink, oneToOne, 65534, 65534, fileOwner{65534, 65534}, Yes, 0},
		{"inside a namespace, its own", initLink, child, mapped, 100005, 100005, fileOwner{100005, 100005}, Yes, 0},
		{"inside, the namespace's root's", initLink, child, mapped, 100005, 100005, fileOwner{100000, 100000}, No, 5},
		{"inside, the initial root's", initLink, child, mapped, 100005, 100005, fileOwner{0, 0}, No, InitUserNS},
		{"inside, it is the namespace's root", initLink, child, mapped, 100000, 100000, fileOwner{100000, 100000}, Unknown, 5},
		{"inside, both roots are 0", initLink, child, fromZero, 5, 5, fileOwner{0, 0}, No, 0},
		{"inside, root has no mapping", initLink, child, "5 5 1\n", 5, 5, fileOwner{0, 0}, No, 0},
		{"from inside, root's", child, child, mapped, 5, 5, fileOwner{0, 0}, No, 5},
		{"from inside, root's, and both roots are 0", child, child, fromZero, 5, 5, fileOwner{0, 0}, No, 0},
		{"from inside, an unmapped owner", child, child, mapped, 5, 5, fileOwner{65534, 65534}, No, 0},
		{"from inside, all unmapped", child, "", mapped, 65534, 65534, fileOwner{65534, 65534}, Unknown, 0},
		{"link not readable, one to one", initLink, "", oneToOne, 1000, 1000, fileOwner{0, 0}, No, InitUserNS},
	} {
		t.Run(c.name, func(t *testing.T) {
			tr := newTree(c.observer)
			tr.task(8, 0, c.euid, c.egid, c.owner, c.link, c.maps)
			s, err := Gather(tr, 8)
			if err != nil {
				t.Fatal(err)
			}
			var memory uint64
			if s.MemoryNS != nil {
				memory = s.MemoryNS.ID
			}
			// Of a dumpable task the namespace of its memory does not matter.
			if s.Dumpable != c.want || memory != c.memory {
				t.Errorf("dumpable %v, memory of namespace %d; want %v, %d", s.Dumpable, memory, c.want, c.memory)
			}
		})
	}
}

func TestGather(t *testing.T) {
	tr := newTree(initLink)
	tr.task(1, 0, 0, 0, fileOwner{0, 0}, initLink, oneToOne)
	tr.task(20, 1, 1000, 1000, fileOwner{1000, 1000}, initLink, oneToOne)
	tr.task(30, 20, 1000, 1001, fileOwner{1000, 1001}, "user:[5]", "0 1000 1\n")
	tr.MapFS["30/attr/current"] = &fstest.MapFile{Data: []byte("unconfined\n\x00")}
	s, err := Gather(tr, 30)
	if err != nil {
		t.Fatal(err)
	}
	want := Subject{
		Status: Status{Name: "t", State: 'S', PID: 30, Tgid: 30, PPID: 20, UID: four(1000), GID: four(1001), HasMemory: true},
		UserNS: &Namespace{ID: 5}, MemoryNS: &Namespace{ID: 5}, Ancestors: []int{20, 1},
		UIDMap: []IDRange{{0, 1000, 1}}, GIDMap: []IDRange{{0, 1000, 1}},
		Label: "unconfined", LabelSeen: true, Dumpable: Unknown, FileUID: 1000, FileGID: 1001,
	}
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := Gather(tr, 99); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no such task: %v", err)
	}
	tr.MapFS["20/status"].Data = []byte("Name:\tx\n")
	if _, err := Gather(tr, 20); err == nil || !strings.Contains(err.Error(), "20/status: no ") {
		t.Errorf("malformed: %v", err)
	}
	tr.task(50, 51, 0, 0, fileOwner{}, initLink, oneToOne)
	tr.task(51, 50, 0, 0, fileOwner{}, initLink, oneToOne)
	if s, err := Gather(tr, 50); err != nil || len(s.Ancestors) != maxAncestors {
		t.Errorf("parents in a circle: %d, %v", len(s.Ancestors), err)
	}
}

func TestGatherLeavesUnknownWhatIsNotThere(t *testing.T) {
	tr := newTree("pid:[1]")
	tr.task(8, 0, 1000, 1000, fileOwner{}, "user:[x]", "garbage\n")
	tr.MapFS["8/mem"].Sys = nil
	s, err := Gather(tr, 8)
	if err != nil {
		t.Fatal(err)
	}
	if s.UserNS != nil || s.Dumpable != Unknown || !s.FileUnseen || s.UIDMap != nil {
		t.Errorf("%+v", s)
	}
	if d := Decide(ProcMemRead, s, s, GatherFacts(tr)); d.Verdict != Undecided {
		t.Errorf("%v", d)
	}
}

// denied gives an error for one file of a tree.
type denied struct {
	tree
	name string
	err  error
}

func (d denied) Open(name string) (fs.File, error) {
	if name == d.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: d.err}
	}
	return d.tree.Open(name)
}

func TestGatherFacts(t *testing.T) {
	tr := newTree(initLink)
	if f := GatherFacts(tr); f.Yama != 0 || f.YamaUnseen || !f.Observer.initial() || f.Overflow != 65534 {
		t.Errorf("without Yama: %+v", f)
	}
	tr.MapFS["sys/kernel/yama/ptrace_scope"] = &fstest.MapFile{Data: []byte("2\n")}
	if f := GatherFacts(tr); f.Yama != 2 || f.YamaUnseen {
		t.Errorf("with Yama: %+v", f)
	}
	if f := GatherFacts(denied{tr, "sys/kernel/yama/ptrace_scope", fs.ErrPermission}); !f.YamaUnseen {
		t.Errorf("Yama not readable: %+v", f)
	}
}

func TestGatherTellsNoModuleFromNoPermission(t *testing.T) {
	tr := newTree(initLink)
	tr.task(8, 0, 1, 1, fileOwner{1, 1}, initLink, oneToOne)
	for err, seen := range map[error]bool{fs.ErrPermission: false, errors.New("invalid argument"): true} {
		s, gerr := Gather(denied{tr, "8/attr/current", err}, 8)
		if gerr != nil || s.LabelSeen != seen || s.Label != "" {
			t.Errorf("%v: label %q, seen %v, %v", err, s.Label, s.LabelSeen, gerr)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	f.Add(statusText)
	f.Add(statusText[:200])
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseStatus([]byte(text)); err == nil && s.State == 0 {
			t.Error("accepted without a state")
		}
	})
}
