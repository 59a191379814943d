// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"errors"
	"strings"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/memtest"
)

// The types of swap entries that are no areas, in the kernel of a village (6.12).
const (
	typePoison  = 23
	typeMoving  = 24
	typeMarker  = 31
	markerGuard = 4
)

// peopled makes a village with a page of each kind.
func peopled(t testing.TB, swap bool) *village {
	v := newVillage(t)
	swapped := v.mode.Swapped
	a := remora.Addr(villageUser)
	v.vma(a, 8, nil, false)
	for i := range remora.Addr(4) {
		v.present(a + i*villagePage)
	}
	v.readOnly(a+4*villagePage, make([]byte, 2*villagePage)) // never touched
	v.user.Set(uint64(a+6*villagePage), 1, swapped(typeMarker, markerGuard))
	v.hole(a+6*villagePage, 1, remora.ErrGuard)
	v.user.Set(uint64(a+7*villagePage), 1, swapped(typePoison, 9))
	v.hole(a+7*villagePage, 1, remora.ErrPoisoned)
	v.hole(a+8*villagePage, 8, remora.ErrUnmapped)

	a += 16 * villagePage // what was swapped out
	v.vma(a, 8, nil, false)
	cached := v.makeSwap()
	for i, off := range []uint64{1, 2, 3, 4, 63, 64} {
		v.user.Set(uint64(a)+uint64(i)*villagePage, 1, swapped(villageSwap, off))
	}
	v.readOnly(a, cached.data)
	v.readOnly(a+villagePage, make([]byte, villagePage))
	v.hole(a+2*villagePage, 1, remora.ErrNotPresent) // zswap
	if data := swapData(64); swap {
		v.readOnly(a+3*villagePage, data[4*villagePage:5*villagePage])
		v.readOnly(a+4*villagePage, data[63*villagePage:])
	} else {
		v.hole(a+3*villagePage, 2, remora.ErrNotPresent)
	}
	v.hole(a+5*villagePage, 1, remora.ErrCorrupt) // beyond the area
	moved, data := v.frame(55)
	v.user.Set(uint64(a+6*villagePage), 1, swapped(typeMoving, moved))
	v.place[a+6*villagePage] = remora.Addr(moved * villagePage)
	v.area(a+6*villagePage, data, villagePage, nil)
	v.user.Set(uint64(a+7*villagePage), 1, swapped(9, 1)) // no such area
	v.hole(a+7*villagePage, 1, remora.ErrCorrupt)

	a += 16 * villagePage // files: the mapping begins with page 5
	plain, pages := v.file(0, 0xef53, map[int]byte{5: 11, 7: 12, 11: 13}, nil)
	v.vma(a, 8, plain, false)
	v.readOnly(a, pages[5].data)
	v.hole(a+villagePage, 1, remora.ErrNotPresent)
	v.readOnly(a+2*villagePage, pages[7].data)
	v.readOnly(a+6*villagePage, pages[11].data)
	v.hole(a+7*villagePage, 1, remora.ErrBeyondEOF)

	a += 16 * villagePage
	memory, pages := v.file(1, magicTmpfs, map[int]byte{5: 21, 8: 22}, map[int]uint64{6: 4})
	v.vma(a, 4, memory, true)
	v.shared(a, pages[5])
	if swap {
		v.readOnly(a+villagePage, swapData(64)[4*villagePage:5*villagePage])
	} else {
		v.hole(a+villagePage, 1, remora.ErrNotPresent)
	}
	v.readOnly(a+2*villagePage, make([]byte, villagePage)) // a hole in the file
	v.shared(a+3*villagePage, pages[8])

	a += 1 << 24
	v.vma(a, 1<<10, nil, false)
	v.readOnly(a, make([]byte, 4<<20)) // long, never touched
	v.hole(a+4<<20, 1, remora.ErrUnmapped)
	return v
}

// A process keeps the contract, wherever its pages are.
func TestProcessKeepsTheContract(t *testing.T) {
	for _, swap := range []bool{true, false} {
		name := map[bool]string{true: "with a swap file", false: "without"}[swap]
		t.Run(name, func(t *testing.T) {
			p := peopled(t, swap).process(swap)
			info := p.k.phys.Info()
			info.Name, info.PtrSize, info.Granule, info.Last = "village@7", 8, villagePage, 1<<47-1
			want := memtest.Want{Info: info, Lacks: memtest.Lacks{
				Top: "a process has no memory there", Forced: "protections are no cause here", Absent: "a read brings nothing in",
			}}
			if !swap {
				want.Part = 3
			}
			memtest.TestSpace(t, func(t testing.TB) memtest.Fixture {
				v := peopled(t, swap)
				p := v.process(swap)
				return memtest.Fixture{Space: p, Areas: v.areas, Peek: v.peek, Close: func() error {
					return errors.Join(p.Close(), v.k.Close(), v.phys.Close())
				}}
			}, want)
		})
	}
}

// What a page that cannot be read says of itself.
func TestProcessExplains(t *testing.T) {
	p := peopled(t, false).process(false)
	for a, want := range map[remora.Addr]string{
		villageUser + 6*villagePage:  "guard page: PTE at",
		villageUser + 9*villagePage:  "no mapping of the process holds it",
		villageUser + 18*villagePage: "page 0x3 of area 3 is packed in zswap, which is not supported",
		villageUser + 19*villagePage: `page 0x4 of swap area 3 ("/dev/swap"); --swap 3=FILE gives a copy of it`,
		villageUser + 21*villagePage: "swapped out: page 0x40 of swap area 3; whether memory has it: damaged",
		villageUser + 33*villagePage: `page 0x6 of "/file" is not in memory`,
		villageUser + 39*villagePage: `"/file" has 0xbf9c bytes`,
	} {
		if _, err := p.Memory().Uint8(t.Context(), a); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", a, err, want)
		}
	}
	for _, a := range []remora.Addr{villageUser + 4*villagePage, villageUser + 16*villagePage, villageUser + 32*villagePage} {
		if _, err := p.Memory().WriteAt(t.Context(), []byte{1}, a); !errors.Is(err, remora.ErrNotPresent) {
			t.Errorf("writing %v: %v", a, err)
		}
	}
}

// Where mappings are missing from the list an address in none of them may be in one.
func TestProcessOfWhichMappingsAreMissing(t *testing.T) {
	p := peopled(t, false).process(false)
	p.pager.kept.Load().bad = damaged("a node")
	if _, err := p.Memory().Uint8(t.Context(), villageUser+9*villagePage); !errors.Is(err, remora.ErrCorrupt) || !strings.Contains(err.Error(), "whether a mapping holds it: a node") {
		t.Error(err)
	}
}

// Where the pages of each mapping are.
func TestProcessPageUsage(t *testing.T) {
	p := peopled(t, false).process(false)
	const page = villagePage
	want := []PageUsage{
		{Resident: 4 * page, Untouched: 2 * page, Absent: 2 * page},
		{Cached: page, SwapZero: page, Swapped: 3 * page, Resident: page, Absent: 2 * page},
		{Cached: 3 * page, Absent: 5 * page},
		{Cached: 2 * page, Swapped: page, Untouched: page},
		{Untouched: 4 << 20},
	}
	i := 0
	for u, err := range p.PageUsage(t.Context()) {
		if u.Region = (remora.Region{}); err != nil || i >= len(want) || u != want[i] {
			t.Errorf("mapping %d: %+v, %v", i, u, err)
		}
		i++
	}
	if i != len(want) {
		t.Errorf("%d mappings", i)
	}
	sum := uint64(0)
	for run, err := range p.Runs(t.Context(), remora.Range{Start: villageUser, Size: 64 * page}) {
		if err != nil || run.Start != remora.Addr(villageUser+sum) {
			t.Fatalf("%+v, %v", run, err)
		}
		sum += run.Size
	}
	if sum != 64*page {
		t.Errorf("runs of %d bytes", sum)
	}
}
