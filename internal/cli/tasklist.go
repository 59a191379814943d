// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/target"
)

// taskList is the Result of ps.
type taskList struct {
	Target string    `json:"target"`
	RAM    uint64    `json:"ram,omitempty"` // of the machine, in bytes; 0: not known
	Tasks  []taskRow `json:"tasks"`

	ctx     context.Context
	kernel  *target.Kernel
	opts    *psOptions
	trouble []error
}

// taskRow is one thread. Sizes are in bytes, times in nanoseconds.
type taskRow struct {
	PID      int      `json:"pid"`
	TGID     int      `json:"tgid"`
	PPID     int      `json:"ppid"`
	NSPIDs   []int    `json:"ns_pids,omitempty"`
	CPU      int      `json:"cpu"`
	Running  bool     `json:"running"` // a processor ran it
	Address  string   `json:"address"`
	State    string   `json:"state"`
	Kernel   bool     `json:"kernel_thread"`
	Comm     string   `json:"comm"`
	CommHex  string   `json:"comm_hex,omitempty"` // of a name that is not UTF-8
	Virtual  *uint64  `json:"vsz,omitempty"`      // none: not known
	Resident *uint64  `json:"rss,omitempty"`
	UID      uint32   `json:"uid"`
	EUID     uint32   `json:"euid"`
	GID      uint32   `json:"gid"`
	EGID     uint32   `json:"egid"`
	Start    int64    `json:"start"` // since the system started
	UTime    int64    `json:"utime"`
	STime    int64    `json:"stime"`
	MM       string   `json:"mm,omitempty"`
	Stack    string   `json:"stack"`
	SP       string   `json:"sp"`
	Argv     []string `json:"argv,omitempty"`
	ArgvHex  []string `json:"argv_hex,omitempty"`
	Env      []string `json:"env,omitempty"`
	EnvHex   []string `json:"env_hex,omitempty"`
	ArgsGone string   `json:"args_missing,omitempty"` // why there are none
	Depth    int      `json:"depth,omitempty"`        // in the tree

	task *kernel.Task
}

// Output is the file that is written instead of standard output.
func (l *taskList) Output() string { return *l.opts.output }

// read finds all that is to be shown.
func (l *taskList) read(want []string) error {
	if _, err := l.kernel.Tables(l.ctx); err != nil {
		return err // once, and not of each thing that it is needed for
	}
	tasks, err := l.tasks(want)
	if err != nil {
		return err
	}
	if len(tasks) == 0 {
		err := errors.Join(append(l.trouble, errors.New("no process fits"))...)
		l.trouble = nil
		return err
	}
	usage, err := l.kernel.Usage(l.ctx, tasks)
	if err != nil {
		l.trouble = append(l.trouble, err)
	}
	if l.RAM, err = l.kernel.RAM(l.ctx); err != nil {
		l.RAM = 0 // which the line without a share says
	}
	running := l.running()
	for i, t := range tasks {
		row := rowOf(t)
		row.Running = running[t.Addr]
		if usage != nil && usage[i].Err == nil {
			row.Virtual, row.Resident = &usage[i].Virtual, &usage[i].Resident
		} else if usage != nil {
			l.trouble = append(l.trouble, fmt.Errorf("memory of process %d: %w", t.TGID, usage[i].Err))
		}
		if t.Problem != nil {
			l.trouble = append(l.trouble, t.Problem)
		}
		if l.opts.args {
			l.addArgs(&row)
		}
		l.Tasks = append(l.Tasks, row)
	}
	if l.opts.tree {
		l.asTree()
	}
	return nil
}

// running gives the tasks that processors ran.
func (l *taskList) running() map[remora.Addr]bool {
	all, err := l.kernel.Processors(l.ctx)
	if err != nil {
		l.trouble = append(l.trouble, err)
	}
	running := map[remora.Addr]bool{}
	for _, p := range all {
		running[p.Current] = p.Online
	}
	return running
}

// tasks finds the tasks that fit, in the order of their numbers.
func (l *taskList) tasks(want []string) (tasks []*kernel.Task, err error) {
	for t, err := range l.kernel.Tasks(l.ctx) {
		switch {
		case l.ctx.Err() != nil:
			return nil, context.Cause(l.ctx)
		case err != nil:
			l.trouble = append(l.trouble, err)
		case fits(t, want):
			tasks = append(tasks, t)
		}
	}
	if len(tasks) == 0 && len(want) == 0 && len(l.trouble) > 0 {
		err = errors.Join(l.trouble...)
		l.trouble = nil
		return nil, err
	}
	if l.opts.threads {
		tasks = l.withThreads(tasks)
	}
	tasks = l.withOthers(tasks, want)
	slices.SortStableFunc(tasks, func(a, b *kernel.Task) int {
		return cmp.Or(cmp.Compare(a.TGID, b.TGID), cmp.Compare(a.PID, b.PID), cmp.Compare(a.CPU, b.CPU)) // the last for idle tasks
	})
	return tasks, nil
}

// fits says whether a task is wanted.
func fits(t *kernel.Task, want []string) bool {
	if len(want) == 0 {
		return true
	}
	return slices.ContainsFunc(want, func(w string) bool {
		if pid, err := strconv.Atoi(w); err == nil {
			return t.PID == pid
		}
		return t.Comm == w || strings.ContainsAny(w, "*?") && fitsName(t.Comm, w)
	})
}

// withThreads adds the other threads of processes.
func (l *taskList) withThreads(processes []*kernel.Task) (all []*kernel.Task) {
	for _, p := range processes {
		seen := false
		for t, err := range l.kernel.Threads(l.ctx, p) {
			if err != nil {
				l.trouble = append(l.trouble, err)
				continue
			}
			seen = seen || t.Addr == p.Addr
			all = append(all, t)
		}
		if !seen {
			all = append(all, p)
		}
	}
	return all
}

// withOthers adds what the list of processes does not have: threads that were asked for by
// their numbers, and those that processors ran.
func (l *taskList) withOthers(tasks []*kernel.Task, want []string) []*kernel.Task {
	has := map[remora.Addr]bool{}
	shown := map[int]bool{}
	for _, t := range tasks {
		has[t.Addr], shown[t.TGID] = true, true
	}
	add := func(t *kernel.Task, err error) {
		var none *kernel.NoTaskError
		if err == nil && !has[t.Addr] {
			has[t.Addr] = true
			tasks = append(tasks, t)
		} else if err != nil && !errors.As(err, &none) {
			l.trouble = append(l.trouble, err)
		}
	}
	for _, w := range want {
		if pid, err := strconv.Atoi(w); err == nil && pid > 0 {
			add(l.kernel.Task(l.ctx, pid))
		}
	}
	for a := range l.running() {
		if t, err := l.kernel.TaskAt(l.ctx, a); err != nil || shown[t.TGID] && t.TGID != 0 {
			add(t, err)
		}
	}
	return tasks
}

func rowOf(t *kernel.Task) taskRow {
	row := taskRow{
		PID: t.PID, TGID: t.TGID, PPID: t.PPID, NSPIDs: t.NSPIDs, CPU: t.CPU, Address: t.Addr.String(), State: t.State.String(),
		Kernel: t.KernelThread() || t.Idle(), Comm: t.Comm, UID: t.Creds.UID, EUID: t.Creds.EUID, GID: t.Creds.GID, EGID: t.Creds.EGID,
		Start: int64(t.StartBoot), UTime: int64(t.UTime), STime: int64(t.STime), Stack: t.Stack.String(), SP: t.SP.String(), task: t,
	}
	if !utf8.ValidString(t.Comm) {
		row.CommHex = hex.EncodeToString([]byte(t.Comm))
	}
	if t.MM != 0 {
		row.MM = t.MM.String()
	}
	return row
}

// addArgs adds what a process was started with.
func (l *taskList) addArgs(row *taskRow) {
	if row.MM == "" || row.PID != row.TGID {
		return
	}
	argv, envp, err := l.command(row.PID)
	if err != nil {
		row.ArgsGone = err.Error()
		l.trouble = append(l.trouble, fmt.Errorf("arguments of process %d: %w", row.PID, err))
	}
	row.Argv, row.ArgvHex, row.Env, row.EnvHex = argv, inHex(argv), envp, inHex(envp)
}

// command gives what a process was started with, out of its memory.
func (l *taskList) command(pid int) (argv, envp []string, err error) {
	p, err := l.kernel.Process(l.ctx, pid, nil)
	if err != nil {
		return nil, nil, err
	}
	defer p.Close()
	return p.Command(l.ctx)
}

// asTree puts children behind their parents.
func (l *taskList) asTree() {
	at := map[int]int{} // of a process, by its number
	for i, row := range l.Tasks {
		if _, twice := at[row.PID]; !twice && row.PID == row.TGID {
			at[row.PID] = i
		}
	}
	children := map[int][]int{}
	var roots []int
	for i, row := range l.Tasks {
		parent, ok := at[row.PPID]
		if row.PID != row.TGID {
			parent, ok = at[row.TGID]
		}
		if ok && parent != i && row.PID != 0 {
			children[parent] = append(children[parent], i)
		} else {
			roots = append(roots, i)
		}
	}
	sorted := make([]taskRow, 0, len(l.Tasks))
	done := make([]bool, len(l.Tasks))
	show := func(root int) {
		type visit struct{ row, depth int }
		for todo := []visit{{root, 0}}; len(todo) > 0; {
			v := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			if done[v.row] {
				continue
			}
			done[v.row] = true
			row := l.Tasks[v.row]
			row.Depth = v.depth
			sorted = append(sorted, row)
			for _, c := range slices.Backward(children[v.row]) {
				todo = append(todo, visit{c, v.depth + 1})
			}
		}
	}
	for _, r := range roots {
		show(r)
	}
	for i := range l.Tasks { // those that are their own ancestors, which only damage makes
		show(i)
	}
	l.Tasks = sorted
}

// Text prints the columns of crash's ps.
func (l *taskList) Text(w io.Writer) error {
	var b strings.Builder
	b.WriteString("      PID    PPID  CPU              TASK  ST  %MEM       VSZ       RSS  COMM\n")
	for i := range l.Tasks {
		l.line(&b, &l.Tasks[i])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// maxIndent is how deep a tree is indented.
const maxIndent = 40

func (l *taskList) line(b *strings.Builder, row *taskRow) {
	mark, share, virtual, resident := ' ', "?", "?", "?"
	if row.Running {
		mark = '>'
	}
	if row.Virtual != nil {
		virtual, resident = strconv.FormatUint(*row.Virtual>>10, 10), strconv.FormatUint(*row.Resident>>10, 10)
		if l.RAM != 0 {
			share = fmt.Sprintf("%.1f", float64(*row.Resident)*100/float64(l.RAM))
		}
	}
	comm := harmless(row.Comm)
	switch {
	case row.Kernel:
		comm = "[" + comm + "]"
	case row.PID != row.TGID && l.opts.tree:
		comm = "{" + comm + "}"
	}
	fmt.Fprintf(b, "%c%8d %7d %4d  %016x  %-2s %5s %9s %9s  %s%s\n", mark, row.PID, row.PPID, row.CPU, uint64(row.task.Addr), harmless(row.State),
		share, virtual, resident, strings.Repeat("  ", min(row.Depth, maxIndent)), comm)
	if !l.opts.args || row.MM == "" || row.PID != row.TGID {
		return
	}
	if row.ArgsGone != "" {
		fmt.Fprintf(b, "    not known: %s\n", harmless(row.ArgsGone))
		return
	}
	var words []string
	for _, a := range row.Argv {
		words = append(words, harmless(a))
	}
	fmt.Fprintf(b, "    ARG: %s\n", strings.Join(words, " "))
	for _, e := range row.Env {
		fmt.Fprintf(b, "    ENV: %s\n", harmless(e))
	}
}
