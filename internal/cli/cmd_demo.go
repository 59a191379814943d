// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora/internal/specimen"
)

func demoCommand() Command {
	return Command{
		Name:  "demo",
		Short: "show in a minute what remora does, on a process of its own",
		Long: "Starts a process with memory of many kinds, and reads and writes it: what is mapped, one read across holes\n" +
			"with the exact place and cause of each fault, a write that the process sees, a forced write into read-only\n" +
			"text, a read that brings nothing into memory, and a refusal that explains itself. Each step is checked, most of\n" +
			"them by asking the process what it sees itself; what this kernel or these rights do not offer is said, and is\n" +
			"not claimed to be shown. It needs no rights.\n\n" +
			"The exit code is 1 if anything did not go as it should.",
		Examples: []string{
			"remora demo",
			"remora demo --keep # and then type its commands in another terminal",
		},
		New: func(flags *pflag.FlagSet) Run {
			keep := flags.Bool("keep", false, "let the process run on until Ctrl-C, to be tried by hand")
			return func(ctx context.Context, env *Env, _ []string) (Result, error) {
				return newDemonstration(ctx, env, *keep)
			}
		},
	}
}

// readerJob is the name of Job.
const readerJob = "reader"

// Job is the command as a job for specimen.Main: run by somebody else, who may do less. It
// writes all to one stream, and behind it the exit code on a line of its own.
func Job() specimen.Job {
	return specimen.Job{Name: readerJob, Run: func(out io.Writer, args []string) error {
		code := Main(context.Background(), args, Stdio{In: strings.NewReader(""), Out: out, Err: out, Getenv: os.Getenv})
		_, err := fmt.Fprintf(out, "\n%d", code)
		return err
	}}
}

// demoStep is one step of demo, and what came of it.
type demoStep struct {
	Step     int      `json:"step"`
	Title    string   `json:"title"`
	About    string   `json:"about"`
	Commands []string `json:"commands"` // what does the same by hand
	Output   []string `json:"output"`
	Status   string   `json:"status"` // stepShown, stepCannot or stepFailed
	Why      string   `json:"why,omitempty"`

	lines []string // commands and output as they are printed
}

// The values of demoStep.Status.
const (
	stepShown  = "shown"
	stepCannot = "not possible here"
	stepFailed = "failed"
)

// cannot says that a step is not possible on this machine or with these rights.
type cannot struct{ why string }

func (e *cannot) Error() string { return e.why }

// say adds a line of output.
func (st *demoStep) say(format string, args ...any) {
	for line := range strings.Lines(fmt.Sprintf(format, args...)) {
		line = strings.TrimRight(line, " \n")
		st.Output = append(st.Output, line)
		st.lines = append(st.lines, wrap(line, "    ", "      ")...)
	}
}

// typed adds a command that does the same by hand.
func (st *demoStep) typed(line string) {
	st.Commands = append(st.Commands, line)
	lines := wrap("$ "+line, "  ", "        ")
	for i := range lines[:len(lines)-1] {
		lines[i] += " \\"
	}
	st.lines = append(st.lines, lines...)
}

// print prints a step for people.
func (st *demoStep) print(w io.Writer, color bool) error {
	title := fmt.Sprintf("%d. %s", st.Step, st.Title)
	verdict := map[string]string{stepShown: "[shown, and checked]", stepCannot: "[not possible here: " + st.Why + "]",
		stepFailed: "[FAILED: " + st.Why + "]"}[st.Status]
	if color {
		title = "\x1b[1m" + title + colorOff
	}
	lines := append([]string{title}, wrap(st.About, "", "")...)
	lines = append(lines, "")
	lines = append(lines, st.lines...)
	lines = append(lines, wrap(verdict, "  ", "   ")...)
	_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n\n")
	return err
}

// wrapAt is how long a line of prose gets.
const wrapAt = 100

// wrap breaks a line at blanks, and puts something before the first part and before the
// others. What is shorter keeps its blanks.
func wrap(line, first, rest string) []string {
	var out []string
	for lead := first; ; lead = rest {
		room := wrapAt - len(lead)
		at := -1
		if len(line) > room {
			at = strings.LastIndexByte(line[:room], ' ')
		}
		if at <= 0 {
			return append(out, lead+line)
		}
		out = append(out, lead+line[:at])
		line = line[at+1:]
	}
}
