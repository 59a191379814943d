// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/proc"
)

// regionList is the Result of maps.
type regionList struct {
	Target  string      `json:"target"`
	Regions []regionRow `json:"regions"`

	opts *mapsOptions
}

// regionRow is one region for --json. Amounts are in bytes.
type regionRow struct {
	Start   string `json:"start"`
	End     string `json:"end"` // the first address behind it
	Size    uint64 `json:"size"`
	Perm    string `json:"perm"`
	Shared  bool   `json:"shared"`
	Offset  string `json:"offset"`
	Device  string `json:"device"`
	Inode   uint64 `json:"inode"`
	Name    string `json:"name"`
	Deleted bool   `json:"deleted,omitempty"`

	Usage *regionUsage `json:"usage,omitempty"`
	Pages *pageUsage   `json:"pages,omitempty"`

	usage proc.Usage
}

// regionUsage is what of a region is in memory, in bytes.
type regionUsage struct {
	RSS          uint64 `json:"rss"`
	PSS          uint64 `json:"pss"`
	SharedClean  uint64 `json:"shared_clean"`
	SharedDirty  uint64 `json:"shared_dirty"`
	PrivateClean uint64 `json:"private_clean"`
	PrivateDirty uint64 `json:"private_dirty"`
	Referenced   uint64 `json:"referenced"`
	Anonymous    uint64 `json:"anonymous"`
	Swap         uint64 `json:"swap"`
	Locked       uint64 `json:"locked"`
	Flags        string `json:"vm_flags"`
}

// Output is the file that is written instead of standard output.
func (l *regionList) Output() string { return *l.opts.output }

func (l *regionList) add(u held) {
	row := regionRow{
		Start: u.Start.String(), End: endText(u.Range), Size: u.Size, Perm: u.Perm.String(), Shared: u.Shared,
		Offset: fmt.Sprintf("%#x", u.Offset), Device: fmt.Sprintf("%02x:%02x", u.Major, u.Minor), Inode: u.Inode,
		Name: u.Name, Deleted: u.Deleted, Pages: u.pages, usage: u.Usage,
	}
	if l.opts.usage && u.pages == nil {
		row.Usage = &regionUsage{
			RSS: u.Rss, PSS: u.Pss, SharedClean: u.SharedClean, SharedDirty: u.SharedDirty,
			PrivateClean: u.PrivateClean, PrivateDirty: u.PrivateDirty, Referenced: u.Referenced,
			Anonymous: u.Anonymous, Swap: u.Swap, Locked: u.Locked, Flags: u.VmFlags.String(),
		}
	}
	l.Regions = append(l.Regions, row)
}

// endText is the first address behind a range, which may be 2^64.
func endText(r remora.Range) string {
	if r.Last() == remora.MaxAddr {
		return "0x10000000000000000"
	}
	return (r.Last() + 1).String()
}

func sortOrders() []string { return []string{"address", "size", "rss", "dirty", "name"} }

// sort puts the regions in order; the largest first.
func (l *regionList) sort() {
	key := map[string]func(a, b *proc.Usage) int{
		"size":  func(a, b *proc.Usage) int { return cmp.Compare(b.Size, a.Size) },
		"rss":   func(a, b *proc.Usage) int { return cmp.Compare(b.Rss, a.Rss) },
		"dirty": func(a, b *proc.Usage) int { return cmp.Compare(dirty(b), dirty(a)) },
		"name":  func(a, b *proc.Usage) int { return cmp.Compare(a.Name, b.Name) },
	}[l.opts.sort.value]
	if key != nil {
		slices.SortStableFunc(l.Regions, func(a, b regionRow) int { return key(&a.usage, &b.usage) })
	}
}

func dirty(u *proc.Usage) uint64 { return u.SharedDirty + u.PrivateDirty }

// Text prints the columns of /proc/PID/maps (show_map_vma in the kernel's
// fs/proc/task_mmu.c), or those of pmap.
func (l *regionList) Text(w io.Writer) error {
	switch {
	case l.opts.usage && len(l.Regions) > 0 && l.Regions[0].Pages != nil:
		return l.pageList(w)
	case l.opts.pmap || l.opts.usage:
		return l.pmap(w)
	}
	for i := range l.Regions {
		u := &l.Regions[i].usage
		line := fmt.Sprintf("%08x-%08x %s %08x %02x:%02x %d ", uint64(u.Start), uint64(u.Last()+1), permText(u), u.Offset, u.Major, u.Minor, u.Inode)
		if name := nameText(u); name != "" {
			line = fmt.Sprintf("%-73s%s", line, name)
		}
		if _, err := io.WriteString(w, line+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// pmap prints the columns of pmap, or with usage those of pmap -x.
func (l *regionList) pmap(w io.Writer) error {
	usage := l.opts.usage
	text := "Address           Kbytes Mode  Mapping\n"
	if usage {
		text = "Address           Kbytes     RSS   Dirty Mode  Mapping\n"
	}
	var size, rss, dirt uint64
	for i := range l.Regions {
		u := &l.Regions[i].usage
		size, rss, dirt = size+u.Size, rss+u.Rss, dirt+dirty(u)
		text += fmt.Sprintf("%016x %7d ", uint64(u.Start), u.Size>>10)
		if usage {
			text += fmt.Sprintf("%7d %7d ", u.Rss>>10, dirty(u)>>10)
		}
		name := nameText(u)
		if name == "" {
			name = "[ anon ]"
		}
		text += fmt.Sprintf("%s  %s\n", permText(u), name)
		if _, err := io.WriteString(w, text); err != nil {
			return err
		}
		text = ""
	}
	text += "---------------- -------"
	if usage {
		text += " ------- -------"
	}
	text += fmt.Sprintf("\n%-16s %7d", "total kB", size>>10)
	if usage {
		text += fmt.Sprintf(" %7d %7d", rss>>10, dirt>>10)
	}
	_, err := io.WriteString(w, text+"\n")
	return err
}

func permText(u *proc.Usage) string {
	if u.Shared {
		return u.Perm.String() + "s"
	}
	return u.Perm.String() + "p"
}

func nameText(u *proc.Usage) string {
	if u.Deleted {
		return harmless(u.Name) + " (deleted)"
	}
	return harmless(u.Name)
}

// permFlag is --perm.
type permFlag struct{ want string }

func (f *permFlag) Type() string   { return "perms" }
func (f *permFlag) String() string { return f.want }
func (f *permFlag) Set(s string) error {
	pattern := strings.ContainsAny(s, "-.")
	ok := s != "" && strings.Trim(s, "rwxsp") == ""
	if pattern {
		ok = len(s) == 3 || len(s) == 4 && strings.Contains("sp.", s[3:])
		for i := range min(len(s), 3) {
			ok = ok && strings.IndexByte("rwx"[i:i+1]+"-.", s[i]) >= 0
		}
	}
	if !ok {
		return fmt.Errorf("want some of the letters rwxsp, or a pattern such as r-x or r.xp")
	}
	f.want = s
	return nil
}

// fits says whether a region has the rights.
func (f *permFlag) fits(reg remora.Region) bool {
	have := reg.Perm.String() + "p"
	if reg.Shared {
		have = reg.Perm.String() + "s"
	}
	if !strings.ContainsAny(f.want, "-.") {
		return strings.Trim(f.want, have) == ""
	}
	for i := range len(f.want) {
		if f.want[i] != '.' && f.want[i] != have[i] {
			return false
		}
	}
	return true
}

// fitsName says whether a name has the pattern in it, or is one with * or ?.
func fitsName(name, pattern string) bool {
	if !strings.ContainsAny(pattern, "*?") {
		return strings.Contains(name, pattern)
	}
	pattern = strings.NewReplacer("[", `\[`, "]", `\]`, `\`, `\\`).Replace(pattern)
	for _, s := range []string{name, path.Base(name)} {
		if ok, _ := path.Match(pattern, s); ok {
			return true
		}
	}
	ok, _ := path.Match(strings.ReplaceAll(pattern, "/", "|"), strings.ReplaceAll(name, "/", "|")) // * over slashes
	return ok
}
