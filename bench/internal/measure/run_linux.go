// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// Options say how rows are measured.
type Options struct {
	Rounds int           // at least 10
	Each   time.Duration // about how long one side runs in a round
}

// slow is what is done in ten rounds: it takes longer than this.
const slow = time.Second

// fewest is the least number of rounds.
const fewest = 10

// Measure measures a row.
func Measure(r *Row, o Options) (*Result, error) {
	sums, err := digests(r)
	if err != nil {
		return nil, err
	}
	m := &meter{row: r, rounds: max(o.Rounds, fewest), costs: make([][]sample, len(r.Sides))}
	if err := m.calibrate(o.Each); err != nil {
		return nil, err
	}
	for i := range m.rounds {
		if err := m.round(i); err != nil {
			return nil, err
		}
	}
	return m.result(sums), nil
}

// digests has each side do the work, and holds what comes out against the others'.
func digests(r *Row) ([]string, error) {
	all := make([]string, len(r.Sides))
	for i, s := range r.Sides {
		if s.Other {
			continue
		}
		sum, err := s.By.Digest(s.Work)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", r.Name, s.Name, err)
		}
		all[i] = sum
		if i > 0 && sum != all[0] {
			return nil, fmt.Errorf("%s: the outputs differ: %s has %s, %s has %s", r.Name, r.Sides[0].Name, all[0], s.Name, sum)
		}
	}
	return all, nil
}

// meter measures one row.
type meter struct {
	row    *Row
	rounds int
	times  []int      // how often each side does it in a round
	costs  [][]sample // of each side, for each round
}

// sample is what one time cost in a round, in nanoseconds and bytes.
type sample struct {
	wall, cpu, allocs float64
	peak              int64
}

// calibrate finds how often each side does it in a round. That is the warm-up, too.
func (m *meter) calibrate(each time.Duration) error {
	for i := range m.row.Sides {
		s := &m.row.Sides[i]
		for n := 1; ; {
			took, err := m.run(s, n)
			if err != nil {
				return err
			}
			if took.wall*float64(n) <= float64(each)/4 && (s.Most == 0 || n < s.Most) && n < 1<<30 {
				n *= int(min(max(2, float64(each)/2/(took.wall*float64(n))), 16)) // the first times are slow
				continue
			}
			if took.wall > float64(slow) {
				m.rounds = fewest
			}
			n = max(1, int(float64(each)/took.wall))
			if s.Most > 0 {
				n = min(n, s.Most)
			}
			m.times = append(m.times, n)
			break
		}
	}
	return nil
}

// run has a side do it n times.
func (m *meter) run(s *Side, n int) (sample, error) {
	c, err := s.By.Run(s.Work, n)
	if err != nil {
		return sample{}, fmt.Errorf("%s: %s: %w", m.row.Name, s.Name, err)
	}
	return sample{wall: max(float64(c.Wall), 1) / float64(n), cpu: float64(c.CPU) / float64(n), allocs: c.Allocs, peak: c.Peak}, nil
}

// round has every side do it, all on one processor, in an order that is another one in
// each round.
func (m *meter) round(i int) (err error) {
	done, err := place(m.row, i)
	defer func() { err = errors.Join(err, done()) }()
	if err != nil {
		return err
	}
	for k := range m.row.Sides {
		at := (i + k) % len(m.row.Sides)
		took, err := m.turn(&m.row.Sides[at], m.times[at])
		if err != nil {
			return err
		}
		m.costs[at] = append(m.costs[at], took)
	}
	return nil
}

// turn is a side's turn in a round. It begins with some times that do not count: what the side
// before it has put out of the caches is not its own cost.
func (m *meter) turn(s *Side, n int) (sample, error) {
	const few = 8 // of which one more would cost too much time
	if n >= few {
		if _, err := m.run(s, (n+15)/16); err != nil {
			return sample{}, err
		}
	}
	return m.run(s, n)
}

// place puts all sides of a row on the same processor, a different one each round: no two
// of them are equally fast at a time. Sides of a wide row are not bound to any.
func place(r *Row, round int) (done func() error, err error) {
	put := func(cpus ...int) error {
		var errs []error
		for _, s := range r.Sides {
			if err := s.By.Place(cpus); err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", r.Name, s.Name, err))
			}
		}
		return errors.Join(errs...)
	}
	if r.Wide {
		return func() error { return nil }, nil
	}
	return func() error { return put() }, put(round % runtime.NumCPU())
}

// result gives what the rounds came to.
func (m *meter) result(sums []string) *Result {
	r := m.row
	res := &Result{Group: r.Group, Name: r.Name, Work: r.Work, Bytes: r.Bytes, Rounds: m.rounds, Guard: r.Guard, Why: r.Why, Series: r.Series, X: r.X, Flat: r.Flat}
	for i, s := range r.Sides {
		side := SideResult{Name: s.Name, How: s.How, Other: s.Other, Digest: sums[i], Times: m.times[i]}
		var wall, cpu, allocs, ratios, busy []float64
		for k, c := range m.costs[i] {
			wall, cpu, allocs = append(wall, c.wall), append(cpu, c.cpu), append(allocs, c.allocs)
			ratios, busy = append(ratios, m.costs[0][k].wall/c.wall), append(busy, m.costs[0][k].cpu/max(c.cpu, 1))
			if k == 0 {
				side.Peak = c.peak
			}
			side.Peak = higher(side.Peak, c.peak)
		}
		side.Wall, side.Ratio, side.ByCPU = SpreadOf(wall), SpreadOf(ratios), SpreadOf(busy)
		side.CPU, side.Allocs = SpreadOf(cpu).Median, SpreadOf(allocs).Median
		res.Sides = append(res.Sides, side)
	}
	for _, g := range r.Goals {
		if v, ok := res.judge(g); ok {
			res.Goals = append(res.Goals, v)
		}
	}
	return res
}
