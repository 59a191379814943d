// SPDX-License-Identifier: Apache-2.0

//go:build linux && (amd64 || arm64 || riscv64)

package main

import (
	"os"

	"golang.org/x/sys/unix"

	"github.com/remora-go/remora/internal/vmlab/pid1"
	"github.com/remora-go/remora/internal/vmlab/witness"
)

// mainRole makes a region of each kind.
func (m *maker) mainRole() error {
	for _, make := range []func() error{
		m.anonRegions, m.guardRegions, m.fileRegions, m.diskRegions, m.hugeRegions,
		func() error { return m.sharedRegion(true) }, m.swappedRegion, m.highRegion,
	} {
		if err := make(); err != nil {
			return err
		}
	}
	return nil
}

func (m *maker) anonRegions() error {
	p, err := m.place(witness.Anon, 8<<20, readWrite, anonymous, -1)
	if err != nil {
		return err
	}
	seed := m.fill(p)
	copy(p, witness.Marker)
	m.add(witness.Anon, p, seed, true)

	if p, err = m.written(witness.None, 16*m.page); err != nil {
		return err
	}
	if err := unix.Mprotect(p, unix.PROT_NONE); err != nil {
		return err
	}
	if p, err = m.place(witness.Untouched, 16*m.page, readWrite, anonymous, -1); err != nil {
		return err
	}
	m.add(witness.Untouched, p, 0, false)
	if p, err = m.place(witness.Zero, 16*m.page, readWrite, anonymous, -1); err != nil {
		return err
	}
	m.add(witness.Zero, p, 0, true) // the sum reads it
	if p, err = m.place(witness.Dropped, 16*m.page, readWrite, anonymous, -1); err != nil {
		return err
	}
	m.fill(p)
	if err := unix.Madvise(p, unix.MADV_DONTNEED); err != nil {
		return err
	}
	m.add(witness.Dropped, p, 0, false)
	return nil
}

// guardRegions makes guard pages between written ones, where the kernel has them (6.13).
func (m *maker) guardRegions() error {
	p, err := m.place(witness.Guard, 12*m.page, readWrite, anonymous, -1)
	if err != nil {
		return err
	}
	low, guard, high := p[:4*m.page], p[4*m.page:8*m.page], p[8*m.page:]
	m.add(witness.BesideIt, low, m.fill(low), true)
	m.add(witness.BesideIt, high, m.fill(high), true)
	if unix.Madvise(guard, unix.MADV_GUARD_INSTALL) == nil {
		m.add(witness.Guard, guard, 0, false)
	}
	return nil
}

func (m *maker) fileRegions() error {
	f, err := os.OpenFile("/run/file", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	size := 64 * m.page
	contents := make([]byte, size)
	seed := m.fill(contents)
	if _, err := f.Write(contents); err != nil {
		return err
	}
	p, err := m.place(witness.File, size, unix.PROT_READ, unix.MAP_SHARED, int(f.Fd()))
	if err != nil {
		return err
	}
	m.add(witness.File, p, seed, true)
	if p, err = m.place(witness.FileUnread, size, unix.PROT_READ, unix.MAP_SHARED, int(f.Fd())); err != nil {
		return err
	}
	m.add(witness.FileUnread, p, seed, false)
	if p, err = m.place(witness.FileCopy, size, readWrite, unix.MAP_PRIVATE, int(f.Fd())); err != nil {
		return err
	}
	m.add(witness.FileCopy, p, m.fill(p), true)
	return nil
}

func (m *maker) diskRegions() error {
	f, err := pid1.Disk("data", os.O_RDONLY)
	if err != nil {
		return err
	}
	p, err := m.place(witness.Disk, witness.DataSize, unix.PROT_READ, unix.MAP_SHARED, int(f.Fd()))
	if err != nil {
		return err
	}
	m.add(witness.Disk, p, witness.DataSeed, true)
	if p, err = m.place(witness.DiskUnread, witness.DataSize, unix.PROT_READ, unix.MAP_SHARED, int(f.Fd())); err != nil {
		return err
	}
	m.add(witness.DiskUnread, p, witness.DataSeed, false)
	return nil
}

// hugeRegions makes huge pages of both sorts, where the kernel has them.
func (m *maker) hugeRegions() error {
	const huge = 2 << 20
	p, err := m.place(witness.Huge, 3*huge, readWrite, anonymous, -1)
	if err != nil {
		return err
	}
	if unix.Madvise(p, unix.MADV_HUGEPAGE) == nil {
		m.add(witness.Huge, p, m.fill(p), true)
	}
	const flags = anonymous | unix.MAP_HUGETLB | unix.MAP_POPULATE
	if p, err = m.place(witness.HugeTLB, 2*huge, readWrite, flags, -1); err == nil {
		m.add(witness.HugeTLB, p, m.fill(p), true)
	}
	return nil
}

// sharedRegion maps a file that two witnesses share; the first one fills it.
func (m *maker) sharedRegion(first bool) error {
	f, err := os.OpenFile("/dev/shm/shared", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	size := 32 * m.page
	if err := f.Truncate(int64(size)); err != nil {
		return err
	}
	p, err := m.place(witness.Shared, size, readWrite, unix.MAP_SHARED, int(f.Fd()))
	if err != nil {
		return err
	}
	seed := uint64(0x54a6ed)
	if first {
		witness.Fill(p, seed)
	}
	m.add(witness.Shared, p, seed, true)
	return nil
}

func (m *maker) swappedRegion() error {
	p, err := m.written(witness.Swapped, 256*m.page)
	if err != nil {
		return err
	}
	return unix.Madvise(p, unix.MADV_PAGEOUT)
}

// highRegion is as far up as the page tables let it.
func (m *maker) highRegion() error {
	for bit := 55; bit > 39; bit-- {
		at := uint64(1) << bit
		p, err := mapAt(at, 16*m.page, readWrite, anonymous, -1)
		if err != nil {
			continue
		}
		if addressOf(p) != at {
			if err := unix.MunmapPtr(pointerTo(p), uintptr(len(p))); err != nil {
				return err
			}
			continue
		}
		m.add(witness.High, p, m.fill(p), true)
		return nil
	}
	return nil
}
