// SPDX-License-Identifier: Apache-2.0

package difftest

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/internal/specimen"
	"github.com/remora-go/remora/internal/testneed"
)

// Kind is a kind of page, both as a specimen has it and as a model does.
type Kind struct {
	specimen.Kind
	Name   string // where it is not that of Kind
	Perm   remora.Perm
	File   bool
	Shared bool
	Alias  bool         // of the shared piece before it
	Fault  remora.Cause // whatever the protection: nobody else reaches it
	Change bool         // made by mprotect(2) from what Kind is
	Drop   bool         // its pages may be taken away (MADV_DONTNEED) at any time
	Rare   bool         // a system that lacks nothing may be without
}

const (
	read      = remora.PermRead
	write     = remora.PermWrite
	exec      = remora.PermExec
	readWrite = read | write
)

// Kinds are the kinds that a layout is made of. Memory that waits for a userfaultfd is
// none of them. That of HugeTLB is at the start of a layout: see Pages.
var Kinds = [...]Kind{
	{Kind: specimen.Hole, Fault: remora.ErrUnmapped},
	{Kind: specimen.Touched, Perm: readWrite},
	{Kind: specimen.Untouched, Perm: readWrite, Drop: true},
	{Kind: specimen.ZeroPage, Perm: readWrite, Drop: true},
	{Kind: specimen.NoAccess},
	{Kind: specimen.Reserved, Drop: true},
	{Kind: specimen.ReadOnly, Perm: read},
	{Kind: specimen.WriteOnly, Perm: write},
	{Kind: specimen.ExecOnly, Perm: exec},
	{Kind: specimen.Locked, Perm: readWrite},
	{Kind: specimen.Huge, Perm: readWrite},
	{Kind: specimen.HugeTLB, Perm: readWrite, Rare: true},
	{Kind: specimen.PagedOut, Perm: readWrite, Rare: true},
	{Kind: specimen.Guard, Perm: readWrite, Fault: remora.ErrGuard},
	{Kind: specimen.GrowsDown, Perm: readWrite},
	{Kind: specimen.Secret, Perm: readWrite, Shared: true, Fault: remora.ErrFault},
	{Kind: specimen.Text, Perm: read | exec, File: true, Drop: true},
	{Kind: specimen.PrivateFile, Perm: readWrite, File: true},
	{Kind: specimen.UnreadFile, Perm: readWrite, File: true, Drop: true},
	{Kind: specimen.FileEnd, Perm: readWrite, File: true},
	{Kind: specimen.SharedFile, Perm: readWrite, File: true, Shared: true},
	{Kind: specimen.SharedReadOnly, Perm: read, File: true, Shared: true},
	{Kind: specimen.SharedMemory, Perm: readWrite, File: true, Shared: true},
	{Kind: specimen.SharedMemory, Name: "shared, dropped", Perm: readWrite, File: true, Shared: true, Drop: true},
	{Kind: specimen.SharedMemory, Name: "shared, no access", File: true, Shared: true, Change: true},
	{Kind: specimen.SharedMemory, Name: "shared, write-only", Perm: write, File: true, Shared: true, Change: true},
	{Kind: specimen.Alias, Perm: readWrite, File: true, Shared: true, Alias: true, Drop: true},
	{Kind: specimen.PrivateAlias, Perm: readWrite, File: true, Alias: true, Drop: true},
}

func (k Kind) String() string {
	if k.Name != "" {
		return k.Name
	}
	return k.Kind.String()
}

// CanAlias says whether an alias may follow.
func (k *Kind) CanAlias() bool { return k.File && k.Shared && !k.Alias }

// Pages is what the number of pages of a piece is to be a multiple of.
func (k *Kind) Pages() int {
	if k.Kind == specimen.HugeTLB {
		return specimen.HugePage / os.Getpagesize()
	}
	return 1
}

// Number gives the first of Kinds that a specimen calls k.
func Number(k specimen.Kind) int {
	return slices.IndexFunc(Kinds[:], func(d Kind) bool { return d.Kind == k })
}

// Lacking finds the Kinds that this system does not offer, by number. There must be none
// but rare ones where everything is claimed to be there.
func Lacking(t testing.TB, s *specimen.Specimen) map[int]bool {
	t.Helper()
	lacking := map[int]bool{}
	for i, k := range Kinds {
		if k.Kind == specimen.Hole || k.Alias {
			continue
		}
		switch _, err := s.Map(k.Kind, k.Pages()); {
		case errors.Is(err, errors.ErrUnsupported) && (k.Rare || !testneed.All()):
			t.Logf("no %v: %v", k, err)
			lacking[i] = true
		case err != nil:
			t.Fatal(err)
		}
	}
	if err := s.Reset(); err != nil {
		t.Fatal(err)
	}
	return lacking
}
