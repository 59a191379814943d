// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/remora-go/remora/kernel"
)

func TestTaskTree(t *testing.T) {
	for _, x := range []struct {
		name string
		rows [][3]int // PID, TGID, PPID
		want string   // depth and PID of each
	}{
		{"a family", [][3]int{{0, 0, 0}, {0, 0, 0}, {1, 1, 0}, {2, 2, 0}, {3, 3, 2}, {9, 9, 1}, {10, 9, 1}}, "0:0 1:1 2:9 3:10 1:2 2:3 0:0"},
		{"without the parent", [][3]int{{7, 7, 5}, {8, 8, 7}}, "0:7 1:8"},
		{"a thread alone", [][3]int{{10, 9, 1}}, "0:10"},
		{"its own parent", [][3]int{{4, 4, 4}}, "0:4"},
		{"in a circle", [][3]int{{1, 1, 0}, {4, 4, 5}, {5, 5, 6}, {6, 6, 4}}, "0:1 0:4 1:6 2:5"},
		{"twice", [][3]int{{4, 4, 0}, {4, 4, 0}, {5, 5, 4}}, "0:4 1:5 0:4"},
	} {
		t.Run(x.name, func(t *testing.T) {
			l := &taskList{opts: &psOptions{tree: true}}
			for _, r := range x.rows {
				l.Tasks = append(l.Tasks, taskRow{PID: r[0], TGID: r[1], PPID: r[2]})
			}
			l.asTree()
			var got []string
			for _, row := range l.Tasks {
				got = append(got, fmt.Sprintf("%d:%d", row.Depth, row.PID))
			}
			if diff := cmp.Diff(x.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestTaskLines(t *testing.T) {
	size, resident := uint64(8<<20), uint64(1<<20)
	row := func(p kernel.Task, depth int) taskRow {
		r := rowOf(&p)
		r.Depth = depth
		if p.MM != 0 {
			r.Virtual, r.Resident = &size, &resident
			r.Argv, r.Env = []string{"a\x1b[2J", "b c"}, []string{"X=\n"}
		}
		return r
	}
	l := &taskList{RAM: 10 << 20, opts: &psOptions{args: true, tree: true}, Tasks: []taskRow{
		row(kernel.Task{Addr: 0xffff888000001000, PID: 7, TGID: 7, Comm: "evil\x1b]0;\xff", State: 'S', MM: 1}, 0),
		row(kernel.Task{Addr: 0xffff888000002000, PID: 8, TGID: 7, PPID: 1, CPU: 3, Comm: "thread", State: 'R', MM: 1}, 1),
		row(kernel.Task{Addr: 0xffff888000003000, PID: 2, TGID: 2, Comm: "kthreadd", State: '?', Flags: 0x200000}, 1000),
		row(kernel.Task{Addr: 0xffff888000004000, PID: 9, TGID: 9, Comm: "gone", State: 'Z', MM: 1}, 0),
	}}
	l.Tasks[1].Running = true
	l.Tasks[3].ArgsGone, l.Tasks[3].Virtual = "read: \x07", nil
	var b strings.Builder
	if err := l.Text(&b); err != nil {
		t.Fatal(err)
	}
	want := `      PID    PPID  CPU              TASK  ST  %MEM       VSZ       RSS  COMM
        7       0    0  ffff888000001000  S   10.0      8192      1024  evil\x1b]0;\xff
    ARG: a\x1b[2J b c
    ENV: X=\n
>       8       1    3  ffff888000002000  R   10.0      8192      1024    {thread}
        2       0    0  ffff888000003000  ?      ?         ?         ?  ` + strings.Repeat("  ", 40) + `[kthreadd]
        9       0    0  ffff888000004000  Z      ?         ?         ?  gone
    not known: read: \x07
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	if l.Tasks[0].CommHex == "" || l.Tasks[1].CommHex != "" {
		t.Error("the name that is no text is not told exactly")
	}
}

func TestTaskFits(t *testing.T) {
	p := &kernel.Task{PID: 12, Comm: "kworker/0:1"}
	for want, fit := range map[string]bool{"12": true, "1": false, "kworker/0:1": true, "kworker": false, "kworker/*": true, "k*1": true, "[k]*": false, "-12": false} {
		if got := fits(p, []string{"nothing", want}); got != fit {
			t.Errorf("%q: %v", want, got)
		}
	}
	if !fits(p, nil) {
		t.Error("no filter lets nothing through")
	}
}
