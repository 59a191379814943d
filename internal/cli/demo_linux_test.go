// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/testneed"
	"github.com/remora-go/remora/target"
)

func demonstrate(t *testing.T) *demonstration {
	t.Helper()
	env := &Env{Open: func(ctx context.Context, spec string, o *target.Options) (remora.Target, error) {
		return open(ctx, spec, o, nil)
	}}
	res, err := newDemonstration(t.Context(), env, false)
	if err != nil {
		t.Fatal(err)
	}
	d := res.(*demonstration)
	t.Cleanup(func() { d.Close() })
	return d
}

// A demonstration of something broken must not look like one of something that works.
func TestDemoNoticesWhatIsWrong(t *testing.T) {
	failing := func(t *testing.T, d *demonstration) []int {
		t.Helper()
		var steps []int
		err := d.steps(func(st *demoStep) error {
			switch st.Status {
			case stepFailed:
				steps = append(steps, st.Step)
			case stepCannot:
				if testneed.All() {
					t.Errorf("step %d: %s", st.Step, st.Why)
				}
			}
			return nil
		})
		var failed *stepsFailed
		if (len(steps) > 0) != errors.As(err, &failed) || len(steps) == 0 && err != nil {
			t.Errorf("steps %v, but %v", steps, err)
		}
		return steps
	}
	for name, row := range map[string]struct {
		spoil func(*demonstration) error
		want  int
	}{
		"another protection": {func(d *demonstration) error {
			p, _ := d.part(specimen.ReadOnly)
			return d.s.Protect(p.rng, remora.PermRead|remora.PermWrite)
		}, 1},
		"other bytes": {func(d *demonstration) error {
			p, _ := d.part(specimen.PrivateFile)
			return d.s.Poke([]byte("other"), p.rng.Start)
		}, 2},
		"no hole": {func(d *demonstration) error {
			p, _ := d.part(specimen.Hole)
			_, err := d.s.MapAt(p.rng.Start, specimen.Touched, 1)
			return err
		}, 2},
		"writable text": {func(d *demonstration) error {
			p, _ := d.part(specimen.Text)
			return d.s.Protect(p.rng, remora.PermRead|remora.PermWrite)
		}, 4},
	} {
		t.Run(name, func(t *testing.T) {
			d := demonstrate(t)
			if err := row.spoil(d); err != nil {
				t.Fatal(err)
			}
			steps := failing(t, d)
			if !strings.Contains(fmt.Sprint(steps), fmt.Sprint(row.want)) {
				t.Errorf("steps %v failed, not %d", steps, row.want)
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		if steps := failing(t, demonstrate(t)); len(steps) > 0 {
			t.Errorf("steps %v failed", steps)
		}
	})
	t.Run("it is gone", func(t *testing.T) {
		d := demonstrate(t)
		if err := d.s.Kill(); err != nil {
			t.Fatal(err)
		}
		if steps := failing(t, d); len(steps) != len(scenes()) {
			t.Errorf("only steps %v failed", steps)
		}
	})
}

// cancelling ends a context when a text comes by.
type cancelling struct {
	text   string
	cancel func()
	all    strings.Builder
}

func (c *cancelling) Write(p []byte) (int, error) {
	n, err := c.all.Write(p)
	if strings.Contains(c.all.String(), c.text) {
		c.cancel()
	}
	return n, err
}

// The process of a demonstration does not outlive it, however it ends.
func TestDemoEndsItsProcess(t *testing.T) {
	for text, row := range map[string]struct {
		args []string
		want int
	}{
		"nowhere":       {[]string{"demo"}, 0},
		"runs on until": {[]string{"demo", "--keep"}, 0},
		"3. A write":    {[]string{"demo"}, 130},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &cancelling{text: text, cancel: cancel}
		var complaint strings.Builder
		code := Main(ctx, row.args, Stdio{In: strings.NewReader(""), Out: out, Err: &complaint, Getenv: os.Getenv})
		cancel()
		if code != row.want {
			t.Errorf("%q: exit code %d, want %d: %s", text, code, row.want, complaint.String())
		}
		found := regexp.MustCompile(`The process is (\d+),`).FindStringSubmatch(out.all.String())
		if found == nil {
			t.Fatalf("%q: %s", text, out.all.String())
		}
		if _, err := os.Stat("/proc/" + found[1]); err == nil {
			t.Errorf("%q: process %s is still there", text, found[1])
		}
	}
}
