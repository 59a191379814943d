// SPDX-License-Identifier: Apache-2.0

package play

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/kernel"
	"github.com/remora-go/remora/sym"
	"github.com/remora-go/remora/target"
	"github.com/remora-go/remora/vmcore"
)

func openKernel(args []string) (*Work, error) {
	addr, err := parse(args[1:])
	if err != nil {
		return nil, err
	}
	word := make([]byte, 8)
	return fresh(args[0], nil, func(k *target.Kernel) error {
		_, err := k.Memory().ReadAt(context.Background(), word, remora.Addr(addr[0]))
		return err
	}, func() (string, error) { return Sum(word), nil }), nil
}

// address finds the only symbol of a name.
func address(k *target.Kernel, name string) (remora.Addr, error) {
	all, err := k.Symbol(context.Background(), name)
	if err != nil || len(all) != 1 {
		return 0, fmt.Errorf("%s: %d symbols: %w", name, len(all), errors.Join(err, errors.ErrUnsupported))
	}
	return all[0].Addr, nil
}

func firstByte(args []string) (*Work, error) {
	var at remora.Addr
	var b byte
	return fresh(args[0], nil, func(k *target.Kernel) (err error) {
		if at, err = address(k, args[1]); err == nil {
			b, err = k.Memory().Uint8(context.Background(), at)
		}
		return err
	}, func() (string, error) { return fmt.Sprintf("%x:%02x", uint64(at), b), nil }), nil
}

func oneSymbol(args []string) (*Work, error) {
	var at remora.Addr
	return fresh(args[0], nil, func(k *target.Kernel) (err error) {
		at, err = address(k, args[1])
		return err
	}, func() (string, error) { return fmt.Sprintf("%x", uint64(at)), nil }), nil
}

// names reads a file of names.
func names(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	return strings.Fields(string(text)), err
}

func lookup(args []string) (*Work, error) {
	list, err := names(args[1])
	if err != nil {
		return nil, err
	}
	k, err := openTarget(args[0], nil)
	if err != nil {
		return nil, err
	}
	found := make([]byte, 8*len(list))
	return &Work{
		Do: func() error {
			for i, name := range list {
				at, err := address(k, name)
				if err != nil {
					return err
				}
				binary.LittleEndian.PutUint64(found[8*i:], uint64(at))
			}
			return nil
		},
		Digest: func() (string, error) { return Sum(found), nil },
		Close:  k.Close,
	}, nil
}

func allSymbols(args []string) (*Work, error) {
	list, err := names(args[1])
	if err != nil {
		return nil, err
	}
	var all []sym.Symbol
	return fresh(args[0], nil, func(k *target.Kernel) error {
		ctx := context.Background()
		s, err := k.Symbols(ctx)
		if err != nil {
			return err
		}
		all = all[:0]
		for one, err := range s.All(ctx) {
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		return nil
	}, func() (string, error) {
		wanted := map[string]bool{}
		for _, name := range list {
			wanted[name] = true
		}
		var lines []string
		for _, s := range all {
			if s.Module == "" && wanted[s.Name] {
				lines = append(lines, fmt.Sprintf("%s %x\n", s.Name, uint64(s.Addr)))
			}
		}
		return sumLines(lines), nil
	}), nil
}

// sumLines is the digest of lines in whatever order.
func sumLines(lines []string) string {
	slices.Sort(lines)
	return Sum([]byte(strings.Join(lines, "")))
}

func processes(args []string) (*Work, error) {
	k, err := openTarget(args[0], nil)
	if err != nil {
		return nil, err
	}
	var lines []string
	return &Work{
		Do: func() error {
			lines = lines[:0]
			for t, err := range k.Tasks(context.Background()) {
				if err != nil {
					return err
				}
				if !t.Idle() {
					lines = append(lines, fmt.Sprintf("%d %d %s\n", t.PID, t.PPID, t.Comm))
				}
			}
			return nil
		},
		Digest: func() (string, error) { return sumLines(lines), nil },
		Close:  k.Close,
	}, nil
}

// process opens a process of the kernel in an image.
func process(path, number string) (*target.Kernel, *kernel.Process, error) {
	pid, err := strconv.Atoi(number)
	if err != nil {
		return nil, nil, err
	}
	k, err := openTarget(path, nil)
	if err != nil {
		return nil, nil, err
	}
	p, err := k.Process(context.Background(), pid, nil)
	if err != nil {
		return nil, nil, errors.Join(err, k.Close())
	}
	return k, p, nil
}

func readProcess(args []string) (*Work, error) {
	numbers, err := parse(args[2:])
	if err != nil {
		return nil, err
	}
	k, p, err := process(args[0], args[1])
	if err != nil {
		return nil, err
	}
	buf, m := used(numbers[1]), p.Memory()
	return &Work{
		Do: func() error {
			_, err := m.ReadAt(context.Background(), buf, remora.Addr(numbers[0]))
			return err
		},
		Digest: func() (string, error) { return Sum(buf), nil },
		Close:  func() error { return errors.Join(p.Close(), k.Close()) },
	}, nil
}

func mappings(args []string) (*Work, error) {
	k, p, err := process(args[0], args[1])
	if err != nil {
		return nil, err
	}
	var list []byte
	return &Work{
		Do: func() error {
			list = list[:0]
			for r, err := range p.Regions(context.Background()) {
				if err != nil {
					return err
				}
				list = binary.LittleEndian.AppendUint64(list, uint64(r.Start))
				list = binary.LittleEndian.AppendUint64(list, uint64(r.Start)+r.Size)
			}
			return nil
		},
		Digest: func() (string, error) { return Sum(list), nil },
		Close:  func() error { return errors.Join(p.Close(), k.Close()) },
	}, nil
}

func translate(args []string) (*Work, error) {
	at, _, err := List(args[1])
	if err != nil {
		return nil, err
	}
	k, err := openTarget(args[0], nil)
	if err != nil {
		return nil, err
	}
	found := make([]byte, 8*len(at))
	return &Work{
		Do: func() error {
			ctx := context.Background()
			for i, a := range at {
				e := k.Translate(ctx, a)
				if e.Err != nil {
					return e.Err
				}
				binary.LittleEndian.PutUint64(found[8*i:], uint64(e.Phys+a-e.Virt))
			}
			return nil
		},
		Digest: func() (string, error) { return Sum(found), nil },
		Close:  k.Close,
	}, nil
}

// root is the digest of page tables: where they begin.
func root(f *kernel.Found) string { return fmt.Sprintf("%x", uint64(f.Root)) }

func byRegisters(args []string) (*Work, error) {
	var found string
	return &Work{
		Do: func() error {
			m, err := vmcore.Open(args[0], nil)
			if err != nil {
				return err
			}
			h := &kernel.Hints{Machine: m.Meta().Machine}
			for _, c := range m.Meta().CPUs {
				h.CPUs = append(h.CPUs, kernel.CPU{Name: fmt.Sprint("CPU ", c.Index), Index: c.Index, Regs: c.Regs})
			}
			k := kernel.New(m.Memory(), args[0], h)
			f, err := k.Tables(context.Background())
			if err == nil {
				found = root(f)
			}
			return errors.Join(err, k.Close(), m.Close())
		},
		Digest: func() (string, error) { return found, nil },
	}, nil
}

func bySearch(args []string) (*Work, error) {
	if len(args) < 2 {
		return nil, errors.New("no ranges")
	}
	o := &target.Options{Format: vmcore.Raw}
	for _, text := range args[1:] {
		start, size, _ := strings.Cut(text, "+")
		v, err := parse([]string{start, size})
		if err != nil {
			return nil, err
		}
		o.Segments = append(o.Segments, remora.Range{Start: remora.Addr(v[0]), Size: v[1]})
	}
	var found string
	return fresh(args[0], o, func(k *target.Kernel) error {
		f, err := k.Tables(context.Background())
		if err == nil {
			found = root(f)
		}
		return err
	}, func() (string, error) { return found, nil }), nil
}
