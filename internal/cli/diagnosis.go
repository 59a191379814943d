// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Text prints the findings, first of all what can be done.
func (d *diagnosis) Text(w io.Writer) error {
	var b strings.Builder
	d.summary(&b)
	if len(d.Doors) > 0 {
		b.WriteString("\nWays in, each tried\n")
		for _, r := range d.Doors {
			finding(&b, r.verdict(), r.Door, r.Text)
		}
	}
	if len(d.Rules) > 0 {
		b.WriteString("\nThe kernel's rules, in their order; ptrace has those of process_vm_readv\n")
		for _, r := range d.Rules {
			name := r.Rule
			if len(r.Doors) == 1 {
				name += ", for " + r.Doors[0]
			}
			finding(&b, map[string]string{"yes": "passed", "no": "refuses", "unknown": "unknown"}[r.Passed], name, r.Text)
		}
	}
	if remedies := d.remedies(); len(remedies) > 0 {
		b.WriteString("\nWhat would help\n")
		for _, text := range remedies {
			fmt.Fprintf(&b, "  %s\n", harmless(text))
		}
	}
	if len(d.Kernel) > 0 {
		b.WriteString("\nThis kernel, tried on this program itself\n")
		for _, r := range d.Kernel {
			if r.Works {
				finding(&b, "works", r.Name, r.Use)
			} else {
				finding(&b, "missing", r.Name, r.Use+": "+r.Why+"; "+r.Remedy)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *doorReport) verdict() string {
	switch {
	case r.NotTried:
		return "-"
	case r.Reads:
		return "works"
	}
	return "fails"
}

func finding(b *strings.Builder, verdict, name, text string) {
	fmt.Fprintf(b, "  %-8s %s: %s\n", verdict, harmless(name), harmless(text))
}

// remedies gives what would help against the doors that fail, each thing once.
func (d *diagnosis) remedies() []string {
	var all []string
	add := func(text string) {
		if text != "" && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	for _, r := range d.Doors {
		if r.Reads || r.NotTried {
			continue
		}
		add(r.Remedy)
		for _, rule := range d.Rules {
			if rule.Passed == "no" {
				add(rule.Remedy)
			}
		}
	}
	return all
}

// summary says who is who, and what can be done.
func (d *diagnosis) summary(b *strings.Builder) {
	if p, c := d.Process, d.Caller; p != nil && c != nil {
		fmt.Fprintf(b, "Process %s; this program has uid %d, gid %d.\n", p, c.UID, c.GID)
	}
	var reads, writes []string
	for _, r := range d.Doors {
		if r.Reads {
			reads = append(reads, r.Door)
		}
		if r.Writes {
			writes = append(writes, r.Door)
		}
	}
	switch {
	case d.Process == nil && isRunningKernel(d.Target) && !d.Opens:
		b.WriteString("The kernel that runs here cannot be read.\n")
	case d.Process == nil && isRunningKernel(d.Target):
		b.WriteString("The kernel that runs here can be read.\n")
	case d.Process == nil && d.Opens:
		b.WriteString("This is not a live process. It can be read.\n")
	case d.Process == nil:
		b.WriteString("There is no such process, or /proc hides it.\n")
	case !d.Opens:
		b.WriteString("Its memory cannot be read.\n")
	case slices.Equal(reads, writes):
		fmt.Fprintf(b, "Its memory can be read and written, by %s.\n", strings.Join(reads, ", "))
	default:
		fmt.Fprintf(b, "Its memory can be read, by %s; written, by %s.\n", orNone(reads), orNone(writes))
	}
	for _, f := range d.Facts {
		switch f.Key {
		case "door", "force", "resident", "identity check", "traced by", "pid in its namespaces", "format":
			fmt.Fprintf(b, "  %s: %s\n", harmless(f.Key), harmless(f.Value))
		}
	}
}

func orNone(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// String names the process for people.
func (p *patient) String() string {
	text := fmt.Sprintf("%d (%s), uid %d, gid %d, state %s", p.PID, harmless(p.Name), p.UID, p.GID, p.State)
	if p.Process != 0 {
		text += fmt.Sprintf(", a thread of %d", p.Process)
	}
	return text
}
