// SPDX-License-Identifier: Apache-2.0

//go:build linux

package target_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/internal/vmlab"
	"github.com/remora-go/remora/internal/vmlab/witness"
	"github.com/remora-go/remora/kernel"
)

// peer is a kernel that crash and drgn look at.
type peer struct {
	kernel, crashed vmlab.Machine // the same kernel, as it stood and as it died
	packed          vmlab.Format
	none            string // why neither looks at it
	crash           string // with which message crash refuses it; noCrash if it is not for crash at all
}

const noCrash = "it is built for amd64 alone"

// peers gives the kernels. The messages are those of Debian 12's crash; its makedumpfile
// leaves out structures of kernels after 6.1 as if they were memory of processes.
func peers() []peer {
	la57 := func(kernel string) vmlab.Machine { return vmlab.Machine{Kernel: kernel, FiveLevels: true} }
	return []peer{
		{kernel: vmlab.Machine{Kernel: vmlab.AMD64v6_1}, crashed: vmlab.Machine{Kernel: vmlab.AMD64v6_1}, packed: vmlab.MakedumpfileZlib31},
		{kernel: vmlab.Machine{Kernel: vmlab.AMD64v6_12}, crashed: la57(vmlab.AMD64v6_12), packed: vmlab.MakedumpfileZlib1,
			crash: "invalid structure member offset: module_core_size"},
		{kernel: vmlab.Machine{Kernel: vmlab.AMD64v6_17}, none: "the mirror has no debugging information of it"},
		{kernel: vmlab.Machine{Kernel: vmlab.AMD64v7_2}, crashed: la57(vmlab.AMD64v7_2), packed: vmlab.MakedumpfileZlib1,
			crash: "invalid structure member offset: kmem_cache_s_num"},
		{kernel: vmlab.Machine{Kernel: vmlab.ARM64v6_1}, crash: noCrash},
		{kernel: vmlab.Machine{Kernel: vmlab.ARM64v6_12}, crash: noCrash},
		{kernel: vmlab.Machine{Kernel: vmlab.ARM64v7_2}, crash: noCrash},
	}
}

// TestRealPeers compares what crash and drgn find in kernel images by 0.6 GB of debugging
// information with what Remora finds in the images alone. What a peer does not open is in
// the log, with what it says.
func TestRealPeers(t *testing.T) {
	if !everything() {
		return
	}
	for _, p := range peers() {
		t.Run(p.kernel.String(), func(t *testing.T) {
			if p.none != "" {
				t.Logf("%s: no peer: %s", p.kernel, p.none)
				return
			}
			m := openMoment(t, p.kernel)
			if p.crash == noCrash { // drgn wants to be told where QEMU's images have the kernel mapped
				m.testPeers(t, p, vmlab.ELF, convert(t, m.Dump(vmlab.ELF), asELF))
				return
			}
			for _, f := range []vmlab.Format{vmlab.ELFPaging, p.packed} {
				t.Run(string(f), func(t *testing.T) { m.testPeers(t, p, f, m.Dump(f)) })
			}
			crashed := withRAM(t, vmlab.OpenCrash(t, p.crashed))
			t.Run("crash", func(t *testing.T) { crashed.testPeers(t, p, vmlab.Vmcore, crashed.Dump(vmlab.Vmcore)) })
		})
	}
}

// testPeers has both look at one image, or at one in file that was made of it.
func (m *moment) testPeers(t *testing.T, who peer, f vmlab.Format, file string) {
	k, _ := m.kernel(t, f)
	main := m.Truth().Witness(witness.RoleMain)
	p := openProcess(t, k, main.Pid, nil)
	anon, _ := main.Find(witness.Anon)
	r := remora.Range{Start: remora.Addr(anon.Start), Size: anon.End - anon.Start}
	names := uniqueNames(t, k, 400)

	if f == vmlab.MakedumpfileZlib31 { // which has no memory of processes
		r = remora.Range{}
	}
	drgnAgrees(t, k, p, r, file, m.Debug(), names)
	switch who.crash {
	case "":
		m.testPeerCrash(t, k, file, names)
	case noCrash:
		t.Logf("crash does not look at %s: %s", m.Machine, who.crash)
	default:
		if f == vmlab.ELFPaging { // one says it for all
			m.testRefusal(t, who, file)
		}
		// It opens the image all the same where no more than symbols and the log are asked for.
		text, err := m.crash(t, file, "", names, "--kaslr=auto", "--minimal")
		if err != nil {
			t.Fatal(err)
		}
		var ours answers
		ours.forCrash(t, k, names)
		ours.compare(t, "crash --minimal", crashAnswers(text))
	}
}

// drgnAgrees has drgn look at an image file, at a process in it, and at a range of that
// one's memory, which may be empty.
func drgnAgrees(t *testing.T, k *kernel.Kernel, p process, r remora.Range, file, debug string, names []string) {
	t.Helper()
	var ours answers
	ours.tasks(t, k)
	ours.members(t, k)
	ours.symbols(t, k, names)
	ours.modules(t, k)
	ours.log(t, k)
	ours.mappings(t, p)
	args := []string{"testdata/kernel.py", file, debug, strconv.Itoa(p.Task.PID)}
	if !r.Empty() {
		args = append(args, fmt.Sprintf("%x", uint64(r.Start)), strconv.FormatUint(r.Size, 10))
		ours.memory(t, p, r)
	}
	text, err := output(t, strings.Join(names, "\n"), drgn(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	ours.compare(t, "drgn", strings.Split(strings.TrimSpace(text), "\n"))
}

// drgn gives a Python that has it.
func drgn(t *testing.T) string {
	t.Helper()
	python := vmlab.DrgnPython()
	if python == "" {
		testneed.Lacks(t, "needs drgn for python3")
	}
	return python
}

// uniqueNames gives about n names that one symbol each has, of all the kernel itself.
func uniqueNames(t *testing.T, k *kernel.Kernel, n int) (all []string) {
	t.Helper()
	symbols, err := k.Symbols(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for s, err := range symbols.All(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		// Values of per-CPU symbols are distances, and both peers make addresses of them;
		// names that have a dot are of what compilers made, and crash leaves that part off.
		name, _, made := strings.Cut(s.Name, ".")
		if count[name]++; made || s.Module != "" || s.Addr < 1<<63 || strings.Contains(name, "$") {
			count[name] += 2
		}
	}
	maps.DeleteFunc(count, func(_ string, n int) bool { return n > 1 })
	names := slices.Sorted(maps.Keys(count))
	for i, name := range names { // a kernel may have no symbols of its data
		if i%max(1, len(names)/n) == 0 || name == "init_task" || name == "vfs_read" || name == "linux_banner" {
			all = append(all, name)
		}
	}
	return all
}

// answers are lines as testdata/kernel.py prints them.
type answers []string

func (a *answers) add(format string, args ...any) { *a = append(*a, fmt.Sprintf(format, args...)) }

func (a *answers) tasks(t *testing.T, k *kernel.Kernel) {
	for p, err := range k.Tasks(t.Context()) {
		if err != nil {
			t.Error(err)
			continue
		}
		for thread, err := range k.Threads(t.Context(), p) {
			if err != nil {
				t.Error(err)
			} else if !thread.Idle() {
				a.add("task %d %d %d %c %#x %s", thread.PID, thread.TGID, thread.PPID, thread.State, uint64(thread.Addr), thread.Comm)
			}
		}
	}
}

// members adds where the members of struct task_struct are, with those that have a name
// only.
func (a *answers) members(t *testing.T, k *kernel.Kernel) {
	d := taskStruct(t, k)
	members, err := d.In.Members(t.Context(), d.Type)
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range members {
		if member.Name != "" {
			a.add("member %s %d", member.Name, member.Bit)
		}
	}
}

func taskStruct(t *testing.T, k *kernel.Kernel) kernel.Type {
	t.Helper()
	types, err := k.Types(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for d, err := range types.Lookup(t.Context(), "struct task_struct") {
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	t.Fatal("no struct task_struct")
	return kernel.Type{}
}

func (a *answers) symbols(t *testing.T, k *kernel.Kernel, names []string) {
	for _, name := range names {
		all, err := k.Symbol(t.Context(), name)
		if err != nil || len(all) != 1 {
			t.Errorf("%s: %+v, %v", name, all, err)
			continue
		}
		a.add("symbol %s %#x", name, uint64(all[0].Addr))
	}
}

func (a *answers) modules(t *testing.T, k *kernel.Kernel) {
	for mod, err := range k.Modules(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		a.add("module %s %#x %d", mod.Name, uint64(mod.Base), mod.Size)
	}
}

func (a *answers) log(t *testing.T, k *kernel.Kernel) {
	for _, r := range readLog(t, k) {
		a.add("log %d %d %d %x", r.Seq, r.Level, r.Time/time.Microsecond, r.Text)
	}
}

// mappings adds those of a process, with the last part of each file's name.
func (a *answers) mappings(t *testing.T, p process) {
	all, err := p.VMAs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		line := fmt.Sprintf("vma %#x %#x %v %d %d", uint64(v.Start), uint64(v.Start)+v.Size, v.Perm, v.Offset/page, v.Inode)
		if v.Inode != 0 {
			line += " " + path.Base(v.Name)
		}
		*a = append(*a, line)
	}
}

func (a *answers) memory(t *testing.T, p process, r remora.Range) {
	b := make([]byte, r.Size)
	if _, err := p.Memory().ReadAt(t.Context(), b, r.Start); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(b)
	a.add("memory %s", hex.EncodeToString(sum[:]))
}

// compare wants the same lines of a peer, in whatever order.
func (a answers) compare(t *testing.T, peer string, theirs []string) {
	t.Helper()
	subjects := map[string]int{}
	for _, line := range theirs {
		subject, _, _ := strings.Cut(line, " ")
		subjects[subject]++
	}
	ours, theirs := slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(theirs))
	if !slices.Equal(ours, theirs) {
		t.Errorf("%s does not say the same:\n%s", peer, linesApart(strings.Join(ours, "\n"), strings.Join(theirs, "\n")))
	}
	t.Logf("%s says the same of %v", peer, subjects)
}

// testPeerCrash compares with crash. Debian's is older than the images: its ps finds the
// tasks that ran alone, and it has no mappings, since it does not know maple trees. The
// tasks are those of its command list.
func (m *moment) testPeerCrash(t *testing.T, k *kernel.Kernel, file string, names []string) {
	text, err := m.crash(t, file, "list -h init_task task_struct.tasks -s task_struct.pid,tgid,comm\nstruct task_struct -o\nmod\n", names)
	if err != nil {
		t.Fatal(err)
	}
	var ours answers
	for p, err := range k.Tasks(t.Context()) {
		if err == nil && p.CPU >= 0 && (!p.Idle() || p.CPU == 0) {
			ours.add("task %x %d %d %s", uint64(p.Addr), p.PID, p.TGID, p.Comm)
		}
	}
	theirs := crashAnswers(text)
	ours.offsets(t, k, theirs)
	for mod, err := range k.Modules(t.Context()) {
		if err == nil {
			ours.add("module %s %x %d", mod.Name, uint64(mod.Base), mod.Size)
		}
	}
	ours.forCrash(t, k, names)
	ours.compare(t, "crash", theirs)
}

// testRefusal wants crash not to open an image, and to say why.
func (m *moment) testRefusal(t *testing.T, who peer, file string) {
	_, err := m.crash(t, file, "", nil, "--kaslr=auto")
	switch {
	case err == nil:
		t.Errorf("crash opens %s: it can be compared as that of other kernels is", m.Machine)
	case !strings.Contains(err.Error(), who.crash):
		t.Errorf("crash refuses %s, but by %v", m.Machine, err)
	default:
		t.Logf("crash refuses %s: %s", m.Machine, who.crash)
	}
}

// crash runs it on an image, with commands of our own, for the names and for the log.
func (m *moment) crash(t *testing.T, file, commands string, names []string, options ...string) (string, error) {
	t.Helper()
	need(t, "crash")
	for _, name := range names {
		commands += "sym " + name + "\n"
	}
	return output(t, commands+"log\nquit\n", "crash", append(options, "-s", m.Debug(), file)...)
}

// forCrash adds the symbols and the log as crash prints them.
func (a *answers) forCrash(t *testing.T, k *kernel.Kernel, names []string) {
	for _, name := range names {
		if all, err := k.Symbol(t.Context(), name); err == nil && len(all) == 1 {
			a.add("symbol %s %x", name, uint64(all[0].Addr))
		}
	}
	var log []byte
	for _, r := range readLog(t, k) {
		log = r.Append(log)
	}
	for line := range strings.Lines(string(log)) {
		if strings.HasPrefix(line, "[") { // of records of more lines the first one
			a.add("log %s", strings.TrimRight(line, "\n"))
		}
	}
}

// offsets adds where the members of struct task_struct are that others name, also those in
// structures without a name.
func (a *answers) offsets(t *testing.T, k *kernel.Kernel, theirs answers) {
	d := taskStruct(t, k)
	for _, line := range theirs {
		var name string
		if n, _ := fmt.Sscanf(line, "member %s", &name); n == 0 {
			continue
		}
		if member, ok, err := d.In.Find(t.Context(), d.Type, name); ok && err == nil {
			a.add("member %s %d", name, member.Bit/8)
		}
	}
}

// crashAnswers takes what crash prints apart.
func crashAnswers(text string) (all answers) {
	for _, x := range []struct{ pattern, form string }{
		{`(?m)^([0-9a-f]{16})\n  pid = (\d+),\n  tgid = (\d+),\n  comm = "([^\\"]*)`, "task $1 $2 $3 $4"},
		{`(?m)^ +\[(\d+)[^\]]*\] .*?(\w+)(?:\[\d+\])*(?: : \d+)?;$`, "member $2 $1"},
		{`(?m)^[0-9a-f]{16}  (\w+) +([0-9a-f]{16}) +(\d+)  \(not loaded\)`, "module $1 $2 $3"},
		{`(?m)^([0-9a-f]{16}) \(.\) (\w+)`, "symbol $2 $1"},
		{`(?m)^(\[ *\d+\.\d{6}\] .*)$`, "log $1"},
	} {
		re := regexp.MustCompile(x.pattern)
		for _, at := range re.FindAllStringSubmatchIndex(text, -1) {
			all = append(all, string(re.ExpandString(nil, x.form, text, at)))
		}
	}
	return all
}
