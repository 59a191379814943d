// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora/internal/vmlab/witness"
)

// maker makes the regions of a witness, one after another.
type maker struct {
	report witness.Report
	page   uint64
	slot   uint64
	sink   byte
}

const (
	readWrite = unix.PROT_READ | unix.PROT_WRITE
	anonymous = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS
)

// beWitness makes what the role asks for, reports it, waits for a word, and goes on. It
// comes back with an error alone.
func beWitness(role string) error {
	runtime.LockOSThread()
	m := &maker{page: uint64(os.Getpagesize())}
	m.report.Pid, m.report.Role, m.report.Page = os.Getpid(), role, int(m.page)
	var err error
	switch role {
	case witness.RoleMain:
		err = m.mainRole()
	case witness.RoleAreas:
		err = m.areasRole()
	case witness.RoleThreads:
		err = m.threadsRole()
	default:
		err = fmt.Errorf("no role %q", role)
	}
	if err != nil {
		return err
	}
	line, err := json.Marshal(m.report)
	if err != nil {
		return err
	}
	fmt.Printf("%s\n", line)
	if _, err := bufio.NewReaderSize(os.Stdin, 16).ReadString('\n'); err != nil {
		return err
	}
	if role == witness.RoleMain {
		m.spin()
	}
	for {
		unix.Pause()
	}
}

// spin is in user mode for 3 ms of 10, for ever.
func (m *maker) spin() {
	marker, _ := m.report.Find(witness.Anon)
	rest := unix.Timespec{Nsec: 7e6}
	for {
		for until := time.Now().Add(3 * time.Millisecond); time.Now().Before(until); {
			for i := range 100_000 {
				m.sink += byte(i) ^ byte(marker.Seed)
			}
		}
		unix.Nanosleep(&rest, nil)
	}
}

// place maps a region in the next slot.
func (m *maker) place(kind witness.Kind, size uint64, prot, flags, fd int) ([]byte, error) {
	p, err := mapAt(witness.Base+m.slot*witness.Stride, size, prot, flags, fd)
	if err != nil {
		return nil, fmt.Errorf("region %s: %w", kind, err)
	}
	m.slot++
	return p, nil
}

// fill writes contents of its own into p.
func (m *maker) fill(p []byte) (seed uint64) {
	seed = 0x5eed0000 + uint64(m.report.Pid)<<32 + uint64(len(m.report.Regions)) + 1
	witness.Fill(p, seed)
	return seed
}

// add reports p as a region. Its sum is taken if read.
func (m *maker) add(kind witness.Kind, p []byte, seed uint64, read bool) {
	at := addressOf(p)
	r := witness.Region{Name: string(kind), Kind: kind, Start: at, End: at + uint64(len(p)), Seed: seed}
	for _, o := range m.report.Regions {
		if o.Kind == kind {
			r.Name = string(kind) + "-2"
		}
	}
	if read {
		sum := sha256.Sum256(p)
		r.Sum = hex.EncodeToString(sum[:])
	}
	m.report.Regions = append(m.report.Regions, r)
}

// written makes an anonymous region with contents.
func (m *maker) written(kind witness.Kind, size uint64) ([]byte, error) {
	p, err := m.place(kind, size, readWrite, anonymous, -1)
	if err != nil {
		return nil, err
	}
	m.add(kind, p, m.fill(p), true)
	return p, nil
}

func (m *maker) areasRole() error {
	const count = 2000
	p, err := m.place(witness.Area, count*m.page, readWrite, anonymous, -1)
	if err != nil {
		return err
	}
	for i := uint64(0); i < count; i++ {
		one := p[i*m.page : (i+1)*m.page]
		if i%10 == 0 {
			witness.Fill(one, i+1)
		}
		if i%2 == 1 {
			if err := unix.Mprotect(one, unix.PROT_READ); err != nil {
				return err
			}
		}
	}
	m.add(witness.Area, p, 0, false)
	return nil
}

func (m *maker) threadsRole() error {
	tids := make(chan int)
	for i := range 16 {
		go func() {
			runtime.LockOSThread()
			name := append([]byte(fmt.Sprintf("thread-%d", i)), 0)
			setName(name)
			tids <- unix.Gettid()
			for {
				unix.Pause()
			}
		}()
		m.report.Threads = append(m.report.Threads, <-tids)
	}
	if _, err := m.written(witness.Anon, 64*m.page); err != nil {
		return err
	}
	return m.sharedRegion(false)
}
