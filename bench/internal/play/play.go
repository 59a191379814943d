// SPDX-License-Identifier: Apache-2.0

// Package play is the sides of the benchmark that are written in Go: Remora, and ways in
// which other Go programs read. Each is a program of its own to the benchmark, so that its
// time and its memory are its own: see measure.Program for what they are asked.
package play

import (
	"bufio"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Work is something that can be done again and again.
type Work struct {
	Do     func() error
	Digest func() (string, error) // of what Do has left
	Close  func() error           // may be nil

	// Enter and Leave are called before and after all that one request has done, and are not
	// timed: they take and let go what others need, too. Both may be nil.
	Enter, Leave func() error
}

// Verb makes work of its arguments, ready to be done.
type Verb func(args []string) (*Work, error)

// takes gives a verb that takes n arguments, and an error where there are others.
func takes(n int, verb Verb) Verb {
	return func(args []string) (*Work, error) {
		if len(args) != n {
			return nil, fmt.Errorf("%d arguments, not %d", len(args), n)
		}
		return verb(args)
	}
}

// Serve does what r asks for until that ends.
func Serve(r io.Reader, w io.Writer, verbs map[string]Verb) error {
	s := &server{verbs: verbs}
	in := bufio.NewScanner(r)
	for in.Scan() {
		answer, err := s.answer(in.Text())
		if err != nil {
			answer = "error " + strings.ReplaceAll(err.Error(), "\n", "; ")
		} else {
			answer = "ok " + answer
		}
		if _, err := fmt.Fprintln(w, answer); err != nil {
			return err
		}
	}
	if err := s.put(); err != nil {
		return err
	}
	return in.Err()
}

// server keeps the last work, which is asked for again.
type server struct {
	verbs map[string]Verb
	line  string
	work  *Work
}

func (s *server) answer(request string) (string, error) {
	verb, rest, _ := strings.Cut(request, " ")
	n := 1
	if verb == "place" {
		return place(rest)
	}
	if verb == "run" {
		number, work, _ := strings.Cut(rest, " ")
		var err error
		if n, err = strconv.Atoi(number); err != nil {
			return "", err
		}
		rest = work
	}
	if err := s.take(rest); err != nil {
		return "", err
	}
	if err := call(s.work.Enter); err != nil {
		return "", err
	}
	said, err := s.perform(verb, n)
	return said, errors.Join(err, call(s.work.Leave))
}

func call(f func() error) error {
	if f == nil {
		return nil
	}
	return f()
}

// perform does the work that is ready.
func (s *server) perform(verb string, n int) (string, error) {
	switch verb {
	case "sum":
		if err := s.work.Do(); err != nil {
			return "", err
		}
		return s.work.Digest()
	case "run":
		return s.run(n)
	}
	return "", fmt.Errorf("no request %q", verb)
}

// take makes the work of a line ready.
func (s *server) take(line string) error {
	if s.work != nil && s.line == line {
		return nil
	}
	if err := s.put(); err != nil {
		return err
	}
	words := strings.Fields(line)
	if len(words) == 0 || s.verbs[words[0]] == nil {
		return fmt.Errorf("no work %q", line)
	}
	w, err := s.verbs[words[0]](words[1:])
	if err != nil {
		return err
	}
	s.line, s.work = line, w
	return nil
}

// put ends the work that there is.
func (s *server) put() error {
	w := s.work
	s.work = nil
	if w == nil {
		return nil
	}
	return call(w.Close)
}

// run does the work n times. It lets the scheduler in ten times: from a goroutine that makes
// system calls for more than 10 ms that takes the processor away at each look, some 5,000 times
// a second, and what is measured would be that.
func (s *server) run(n int) (string, error) {
	var before, after runtime.MemStats
	do := s.work.Do
	runtime.ReadMemStats(&before)
	began := time.Now()
	for i := range n {
		if i%max(n/10, 1) == 0 {
			runtime.Gosched()
		}
		if err := do(); err != nil {
			return "", err
		}
	}
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	return fmt.Sprint(took.Nanoseconds(), " ", after.Mallocs-before.Mallocs), nil
}

// Sum is the digest of bytes.
func Sum(pieces ...[]byte) string {
	var d digest
	for _, p := range pieces {
		d.add(p)
	}
	return d.String()
}

// digest is a digest of bytes that come one after another.
type digest struct {
	sum  uint32
	size int
}

func (d *digest) add(p []byte) {
	d.sum = crc32.Update(d.sum, crc32.IEEETable, p)
	d.size += len(p)
}

func (d *digest) String() string { return fmt.Sprintf("%08x/%d", d.sum, d.size) }

// parse reads numbers as they are written in Go.
func parse(args []string) ([]uint64, error) {
	var values []uint64
	var errs []error
	for _, a := range args {
		v, err := strconv.ParseUint(a, 0, 64)
		values, errs = append(values, v), append(errs, err)
	}
	return values, errors.Join(errs...)
}

// used gives memory that has been used before. It lies in huge pages, where the kernel has some:
// how the small ones lie in the caches is luck, a tenth more or less of the time of a copy.
func used(size uint64) []byte {
	const huge = 2 << 20
	whole := (size + huge - 1) / huge * huge
	b := make([]byte, whole+huge)
	b = b[inHuge(b, huge):][:whole]
	for i := range b {
		b[i] = 1
	}
	return b[:size:size]
}
