// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/target"
)

// fault is a fault with a cause.
func fault(c error) error { return &remora.Fault{Space: "pid 1", Addr: 0x1000, Err: c} }

func TestJudge(t *testing.T) {
	timeout, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	<-timeout.Done()
	ctrlC, stop := context.WithCancelCause(context.Background())
	stop(errors.New("interrupt signal received"))
	bg := context.Background()
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
	}{
		{"nothing", bg, nil, 0},
		{"an error like any other", bg, errors.New("x"), 1},
		{"a full disk beside holes", bg, errors.Join(fault(remora.ErrUnmapped), &fileError{"write", errors.New("full")}), 1},
		{"an output file that is not there", bg, &fileError{"write", fs.ErrNotExist}, 1},
		{"an output file that may not be written", bg, &fileError{"write", fs.ErrPermission}, 1},
		{"what this system does not have", bg, &openError{errors.ErrUnsupported}, 1},
		{"a mistake", bg, fmt.Errorf("line 3: %w", usagef("x")), 2},
		{"a target in no known form", bg, &openError{&target.SpecError{}}, 2},
		{"a file that is not there", bg, &openError{&target.SpecError{Err: fs.ErrNotExist}}, 3},
		{"a core that is not there", bg, &openError{fs.ErrNotExist}, 3},
		{"gone", bg, fault(remora.ErrGone), 3},
		{"gone, after a hole", bg, errors.Join(fault(remora.ErrUnmapped), fault(remora.ErrGone)), 3},
		{"refused", bg, &remora.AccessError{}, 4},
		{"read-only", bg, fault(remora.ErrReadOnly), 4},
		{"a core that may not be read", bg, &openError{fs.ErrPermission}, 4},
		{"a hole", bg, fault(remora.ErrUnmapped), 5},
		{"a hole in what was cut off", bg, fault(remora.ErrTruncated), 5},
		{"holes", bg, errors.Join(fault(remora.ErrGuard), fault(remora.ErrNotSaved)), 5},
		{"holes that are only counted", bg, &moreFaults{n: 3}, 5},
		{"no format", bg, &openError{&remora.FormatError{Err: remora.ErrUnrecognized}}, 6},
		{"a file that was cut off", bg, &openError{&remora.FormatError{Err: remora.ErrTruncated}}, 6},
		{"out of time", timeout, fault(context.DeadlineExceeded), 124},
		{"out of time, after a hole", timeout, errors.Join(fault(remora.ErrUnmapped), fault(context.DeadlineExceeded)), 124},
		{"out of time, with all calls stuck", timeout, fault(remora.ErrBusy), 124},
		{"out of time, with a write on its way", timeout, fault(remora.ErrInDoubt), 124},
		{"a hole, and the time was over later", timeout, fault(remora.ErrUnmapped), 5},
		{"interrupted", ctrlC, fault(context.Canceled), 130},
		{"interrupted while waiting", ctrlC, context.Cause(ctrlC), 130},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := judge(c.ctx, c.err).code; got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestFlattenTakesListsApartAndNoSentences(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	if got := flatten(errors.Join(a, nil, errors.Join(b, a))); len(got) != 3 {
		t.Errorf("got %v", got)
	}
	if got := flatten(fmt.Errorf("%w, for %w", a, b)); len(got) != 1 {
		t.Errorf("got %v", got)
	}
	if got := flatten(nil); got != nil {
		t.Errorf("got %v", got)
	}
}

// said is a Result that says something, and then fails.
type said struct {
	Words string `json:"text"`
	err   error
}

func (s said) Text(w io.Writer) error {
	if _, err := io.WriteString(w, s.Words); err != nil {
		return err
	}
	return errors.Join(flush(w), s.err)
}

// invoke runs a verb that is in no table.
func invoke(t *testing.T, ctx context.Context, asJSON bool, run Run, out io.Writer) (code int, stderr string) {
	t.Helper()
	var messages bytes.Buffer
	v := &invocation{io: Stdio{In: strings.NewReader(""), Out: out, Err: &messages, Getenv: func(string) string { return "" }}, json: asJSON}
	v.out = &counted{w: out}
	v.env = &Env{Note: v.note}
	c := &Command{Name: "test", New: func(*pflag.FlagSet) Run { return run }}
	code = v.finish(v.run(ctx, c, run, nil))
	return code, messages.String()
}

func TestAResultIsPrintedBesideItsError(t *testing.T) {
	for _, asJSON := range []bool{false, true} {
		var out bytes.Buffer
		code, stderr := invoke(t, t.Context(), asJSON, func(context.Context, *Env, []string) (Result, error) {
			return said{Words: "found"}, fault(remora.ErrGuard)
		}, &out)
		if code != 5 || !strings.Contains(out.String(), "found") || !strings.Contains(stderr, "guard page") {
			t.Errorf("got %d, %q, %q", code, out.String(), stderr)
		}
		if asJSON && (!json.Valid(out.Bytes()) || !json.Valid([]byte(stderr))) {
			t.Errorf("got %q, %q", out.String(), stderr)
		}
	}
}

// full takes some bytes, and then no more.
type full struct{ left int }

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.left)
	f.left -= n
	if n < len(p) {
		return n, errors.New("no space")
	}
	return n, nil
}

func TestAFullDiskIsTheOnlyError(t *testing.T) {
	code, stderr := invoke(t, t.Context(), false, func(context.Context, *Env, []string) (Result, error) {
		return said{Words: strings.Repeat("x", 1<<20), err: fault(remora.ErrGuard)}, nil
	}, &full{100})
	if code != 1 || stderr != "remora: write no space\n" {
		t.Errorf("got %d, %q", code, stderr)
	}
}

// A verb that waits for something that knows no context is left behind.
func TestAVerbThatDoesNotHeedItsContextIsLeftBehind(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	forever := make(chan struct{})
	defer close(forever)
	code, stderr := invoke(t, ctx, false, func(context.Context, *Env, []string) (Result, error) {
		cancel()
		<-forever
		return nil, nil
	}, io.Discard)
	if code != 130 || stderr != "remora: interrupted\n" {
		t.Errorf("got %d, %q", code, stderr)
	}
}

func TestFlushReachesWhatLiesBelow(t *testing.T) {
	var out bytes.Buffer
	w := bufio.NewWriter(&out)
	fmt.Fprint(w, "x")
	if err := flush(w); err != nil || out.String() != "x" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	if err := flush(&out); err != nil {
		t.Error(err)
	}
}

func TestAFileIsReplacedAsAWholeOrNotAtAll(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "out")
	if err := os.WriteFile(name, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	content := func(want string) {
		t.Helper()
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		if list, _ := os.ReadDir(dir); len(list) != 1 {
			t.Errorf("%d files are there, want 1", len(list))
		}
	}
	for _, commit := range []bool{false, true} {
		f, err := createFile(name)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, "new")
		if commit {
			if err := f.commit(); err != nil {
				t.Error(err)
			}
			content("new")
			continue
		}
		f.abandon()
		content("old")
	}
}
