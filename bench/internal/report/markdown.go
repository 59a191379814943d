// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/remora-go/remora/bench/internal/measure"
)

// Markdown gives the page. Where the figures are is told from there.
func Markdown(f *File) string {
	p := &page{File: f, growth: Growths(f.Rows), drawn: Figures(f)}
	p.opening()
	p.missed()
	p.figures()
	for _, g := range p.groups() {
		p.group(g)
	}
	p.method()
	p.contenders()
	p.machine()
	return strings.TrimRight(p.String(), "\n") + "\n"
}

type page struct {
	strings.Builder
	*File
	growth []Growth
	drawn  []Figure
}

func (p *page) say(format string, args ...any) { fmt.Fprintf(p, format+"\n\n", args...) }

// groups gives the names of groups in the order in which they were measured.
func (p *page) groups() []string {
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, r := range p.Rows {
		add(r.Group)
	}
	for _, v := range p.Values {
		add(v.Group)
	}
	return names
}

func (p *page) opening() {
	p.WriteString("<!-- Written by \"make peers\" from benchmarks.json. Do not edit. -->\n\n")
	p.say("# Side by side")
	p.say("Remora beside what one would pick instead, on the same work, in one run and in turns. A ratio is Remora's\n"+
		"time by the other's: below 1 Remora is faster. Times are those of one machine (%s); ratios travel better.", p.fact("processor"))
	met, all := 0, 0
	p.judge(func(_ judged, ok bool) {
		all++
		if ok {
			met++
		}
	})
	p.say("%d rows and %d values on %s, by `%s`, in %s. Of %d goals %d are met. [How it is measured](#how-it-is-measured)\n"+
		"and [how each contender does it](#how-each-contender-does-it) stand at the end.",
		len(p.Rows), len(p.Values), p.Date, p.Command, p.Took, all, met)
}

// fact gives what is known of the machine by that name.
func (p *page) fact(name string) string {
	for _, f := range p.Machine {
		if f.Name == name {
			return f.Is
		}
	}
	return "unknown"
}

// judged is a goal with what was reached.
type judged struct{ group, row, goal, reached, far, why string }

// judge gives every goal of rows, of their growth, and of values.
func (p *page) judge(give func(j judged, ok bool)) {
	for _, r := range p.Rows {
		for _, v := range r.Goals {
			give(judged{r.Group, r.Name, cell(v.Goal), number(v.Value), distance(v.Value, v.Limit), r.Why}, v.Met())
		}
	}
	for _, g := range p.growth {
		if g.Remora {
			give(judged{g.Group, g.Series + ": growth", kind(g), number(g.Exponent), distance(g.Exponent, g.Limit), g.Why}, g.Exponent <= g.Limit)
		}
	}
	for _, v := range p.Values {
		if v.Limit != nil {
			give(judged{v.Group, v.Name, "at most " + value(*v.Limit, v.Unit), value(v.Value, v.Unit), distance(v.Value, *v.Limit), ""}, v.Met())
		}
	}
}

// missed lists failures and the goals that are not met.
func (p *page) missed() {
	if len(p.Failed) > 0 {
		p.say("## Failed")
		p.say("These rows gave no number.")
		t := newTable("group", "row", "why")
		for _, f := range p.Failed {
			t.add(cell(f.Group), cell(f.Row), cell(f.Why))
		}
		p.WriteString(t.String())
	}
	t := newTable("row", "goal", ">reached", "", "why")
	p.judge(func(j judged, ok bool) {
		if !ok {
			t.add(cell(j.group+": "+j.row), j.goal, j.reached, j.far, cell(j.why))
		}
	})
	if len(t.lines) == 0 {
		return
	}
	p.say("## Missed")
	p.WriteString(t.String())
}

func (p *page) figures() {
	first := true
	for _, f := range p.drawn {
		if len(f.Marks) > 0 {
			continue // that of a group stands there
		}
		if first {
			p.say("## Pictures")
			first = false
		}
		p.picture(f)
	}
}

func (p *page) picture(f Figure) { p.say("![%s](benchmarks/%s.svg)", f.Title, f.Name) }

// group tells all rows of a group.
func (p *page) group(name string) {
	var rows []*measure.Result
	for _, r := range p.Rows {
		if r.Group == name {
			rows = append(rows, r)
		}
	}
	p.say("## %s", capital(name))
	for _, f := range p.drawn {
		if f.Name == leadName(name) {
			p.picture(f)
		}
	}
	p.works(rows)
	p.WriteString(numbers(rows).String())
	p.values(name)
	p.goals(name)
	p.limits(rows)
	p.grow(name)
}

// works tells what is done in the rows, those of the same work together.
func (p *page) works(rows []*measure.Result) {
	var works []string
	names := map[string][]string{}
	for _, r := range rows {
		if r.Work == "" {
			continue
		}
		if names[r.Work] == nil {
			works = append(works, r.Work)
		}
		names[r.Work] = append(names[r.Work], "*"+r.Name+"*")
	}
	for _, w := range works {
		fmt.Fprintf(p, "- %s: %s.\n", strings.Join(names[w], "; "), strings.TrimSuffix(w, "."))
	}
	if len(works) > 0 {
		p.WriteString("\n")
	}
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// numbers is the table of all sides of some rows.
func numbers(rows []*measure.Result) *table {
	t := newTable("row", "contender", ">time", ">quartiles", ">Remora needs", ">bandwidth", ">CPU time", ">peak memory", ">allocations")
	for _, r := range rows {
		for i, s := range r.Sides {
			name, who, by := "", cell(s.Name), ratio(s.Ratio)
			switch {
			case i == 0:
				name, who, by = "**"+cell(r.Name)+"**", "**"+who+"**", ""
			case s.Other:
				who = "*" + who + "*"
			}
			allocs := ""
			if s.Allocs >= 0 {
				allocs = allocations(s.Allocs)
			}
			t.add(name, who, duration(s.Wall.Median), quartiles(s.Wall), by, bandwidth(r.Bytes, s.Wall.Median),
				duration(s.CPU), memory(s.Peak), allocs)
		}
	}
	return t
}

// allocations are few or none: what the measuring itself takes is told as none.
func allocations(n float64) string {
	if n < 0.01 {
		return "0"
	}
	return number(n)
}

// values is the table of the values of a group.
func (p *page) values(group string) {
	t := newTable("value", ">measured", "how")
	before := ""
	for _, v := range p.Values {
		if v.Group != group {
			continue
		}
		how := cell(v.How)
		if how == before {
			how = "the same"
		}
		before = cell(v.How)
		t.add("**"+cell(v.Name)+"**", value(v.Value, v.Unit), how)
	}
	p.WriteString(t.String())
}

// goals is the table of the goals of a group.
func (p *page) goals(group string) {
	t := newTable("goal of", "", ">reached", "")
	p.judge(func(j judged, _ bool) {
		if j.group == group {
			t.add(cell(j.row), j.goal, j.reached, j.far)
		}
	})
	p.WriteString(t.String())
}

// limits is the table of how far rows are from what the machine can do, and of why.
func (p *page) limits(rows []*measure.Result) {
	t := newTable("row", "limit of the machine", ">Remora needs", "what lies between")
	for _, r := range rows {
		var best *measure.SideResult
		for i := range r.Sides {
			if s := &r.Sides[i]; s.Other && (best == nil || s.Wall.Median < best.Wall.Median) {
				best = s
			}
		}
		switch {
		case best != nil:
			t.add(cell(r.Name), cell(best.Name), ratio(best.Ratio), cell(r.Why))
		case r.Why != "":
			t.add(cell(r.Name), "", "", cell(r.Why))
		}
	}
	p.WriteString(t.String())
}

// kind is what a growth is to be, in words.
func kind(g Growth) string {
	switch {
	case g.Flat:
		return "constant (exponent at most " + number(g.Limit) + ")"
	case g.Limit > 1+slack+1e-9:
		return "as the quickest other side, or better (exponent at most " + number(g.Limit) + ")"
	}
	return "linear or better (exponent at most " + number(g.Limit) + ")"
}

// grow is the table of the series of a group.
func (p *page) grow(group string) {
	var t *table
	var heads []float64
	for _, g := range p.growth {
		if g.Group != group {
			continue
		}
		if t == nil {
			p.say("How the time grows with the work: time is work to the power of the exponent.")
		}
		var xs []float64
		cells := []string{cell(g.Series), cell(g.Side)}
		for _, pt := range g.Points {
			xs = append(xs, pt.X)
			cells = append(cells, duration(pt.Y))
		}
		if t == nil || !slices.Equal(xs, heads) {
			if t != nil {
				p.WriteString(t.String())
			}
			head := []string{"series", "contender"}
			for _, x := range xs {
				head = append(head, ">"+short(x))
			}
			t, heads = newTable(append(head, ">exponent", "")...), xs
		}
		verdict := ""
		if g.Remora {
			cells[1] = "**" + cells[1] + "**"
			verdict = kind(g) + ": " + distance(g.Exponent, g.Limit)
		}
		t.add(append(cells, fmt.Sprintf("%.2f", g.Exponent), verdict)...)
	}
	if t != nil {
		p.WriteString(t.String())
	}
}

func (p *page) method() {
	p.say("## How it is measured")
	p.say("- **Same work.** Each contender first does the work once and tells a digest of what came out: CRC-32 and length of\n"+
		"  the bytes, or of a text into which lists are put. Where two differ the row is an error, not a number. Contenders in\n"+
		"  *italics* do other work, whose output is another one: they are limits of the machine, or what a start costs.\n"+
		"- **Warm-up.** Each then does it once, and ever more often, until that takes a quarter of %v. None of this is counted.\n"+
		"- **In turns.** In each of %d rounds (10 where doing it once takes more than a second) each does it as often as fits in\n"+
		"  %v, one after another, and another one begins each round. Who does it eight times or more does it some times more before,\n"+
		"  which are not counted: the one before has put other things into the caches. All of them are bound to one processor,\n"+
		"  which is the next one each round, save in rows that need two or that run whole processes. Of those in Go that is the\n"+
		"  thread that works, none of the runtime's, and ten times a round it lets the scheduler in. Buffers lie in huge pages.\n"+
		"- **Numbers.** Time is that of doing it once: the median of the rounds, and their quartiles. What Remora needs is its time\n"+
		"  by the other's of the same round: again the median, and the quartiles in brackets. CPU time is that of the\n"+
		"  whole process, user and system. Peak memory is the most that was resident: of a process that\n"+
		"  stays, since the digest; of a command it is not known below what the benchmark itself has. Allocations are those of each time.\n"+
		"- **Starts.** A contender is a process that stays, or a command that is run anew each time: then its start counts, as it\n"+
		"  does for who types it. What starts alone cost stands in the group \"own cost\".\n"+
		"- **Goals** that name a side hold Remora's time against it; what a goal adds in nanoseconds is taken off first.\n"+
		"- **Guard.** Of some rows, three more sets of processes have the same measured: two sets of one build differ by up to a fifth.\n"+
		"  `make bench-check` says that one has fallen when each of four new sets is slower than the slowest of these, by 5 %% and,\n"+
		"  save at the first, the noise.",
		p.Each, p.Rounds, p.Each)
}

// contenders lists each way to do it once, with the rows that it is used in.
func (p *page) contenders() {
	type way struct{ name, how string }
	var ways []way
	rows := map[way][]string{}
	for _, r := range p.Rows {
		for _, s := range r.Sides {
			w := way{s.Name, s.How}
			if rows[w] == nil {
				ways = append(ways, w)
			}
			rows[w] = append(rows[w], r.Group+": "+r.Name)
		}
	}
	slices.SortStableFunc(ways, func(a, b way) int { return strings.Compare(strings.ToLower(a.name), strings.ToLower(b.name)) })
	p.say("## How each contender does it")
	t := newTable("contender", "how", "in")
	for _, w := range ways {
		in := rows[w][0]
		if n := len(rows[w]); n > 1 {
			in = fmt.Sprintf("%s, and %d more", in, n-1)
		}
		t.add(cell(w.name), cell(w.how), cell(in))
	}
	p.WriteString(t.String())
}

func (p *page) machine() {
	p.say("## The machine, and what ran on it")
	t := newTable("what", "is")
	for _, f := range append(slices.Clone(p.Machine), p.Versions...) {
		t.add(cell(f.Name), cell(f.Is))
	}
	t.add("each side, in a round", p.Each.Round(time.Millisecond).String())
	t.add("rounds", fmt.Sprint(p.Rounds))
	p.WriteString(t.String())
}
