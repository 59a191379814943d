// SPDX-License-Identifier: Apache-2.0

package access

import (
	"bytes"
	"compress/gzip"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

const rootStatus = "Name:\tx\nState:\tR\nTgid:\t5\nPid:\t5\nPPid:\t1\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nCapPrm:\t000001ffffffffff\nCapEff:\t000001ffffffffff\n"

// systemTree is a tree like /.
func systemTree(files map[string]string) fs.FS {
	tree := fstest.MapFS{}
	for name, text := range files {
		mode := fs.FileMode(0o444)
		if strings.HasSuffix(name, "ns/user") {
			mode |= fs.ModeSymlink
		}
		tree[name] = &fstest.MapFile{Data: []byte(text), Mode: mode}
	}
	return tree
}

func packed(text string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	z.Close()
	return b.String()
}

func TestGatherSystem(t *testing.T) {
	config := "#\n# made\n#\nCONFIG_DEVMEM=y\nCONFIG_STRICT_DEVMEM=y\n# CONFIG_PROC_KCORE is not set\nCONFIG_STRICT_DEVMEM_X=y\n"
	s := GatherSystem(systemTree(map[string]string{
		"proc/self/status":             rootStatus,
		"proc/self/ns/user":            "user:[4026531837]",
		"proc/sys/kernel/osrelease":    "6.1\n",
		"sys/kernel/security/lockdown": "none integrity [confidentiality]\n",
		"proc/config.gz":               packed(config),
	}))
	if s.RawIO != Yes || s.Release != "6.1" || s.Lockdown != "confidentiality" || s.option("STRICT_DEVMEM") != Yes || s.option("PROC_KCORE") != No || s.ConfigFrom != "/proc/config.gz" {
		t.Errorf("%+v", s)
	}
	s = GatherSystem(systemTree(map[string]string{
		"proc/self/status":          strings.Replace(rootStatus, "CapEff:\t000001ffffffffff", "CapEff:\t0", 1),
		"proc/sys/kernel/osrelease": "6.1",
		"proc/cmdline":              "quiet lockdown=integrity",
		"boot/config-6.1":           config,
	}))
	if s.RawIO != No || s.Lockdown != "integrity" || s.LockdownFrom != "/proc/cmdline" || s.ConfigFrom != "/boot/config-6.1" {
		t.Errorf("%+v", s)
	}
	s = GatherSystem(systemTree(map[string]string{
		"proc/self/status":          rootStatus,
		"proc/self/ns/user":         "user:[4026532000]",
		"proc/sys/kernel/osrelease": "../../etc",
		"proc/config.gz":            "no gzip",
	}))
	if s.RawIO != No || s.Lockdown != "" || s.Config != nil || s.option("DEVMEM") != Unknown {
		t.Errorf("%+v", s)
	}
	if s = GatherSystem(systemTree(nil)); s.RawIO != Unknown {
		t.Errorf("%+v", s)
	}
}

// What the kernel's memory is refused for, and what would help.
func TestSystemSteps(t *testing.T) {
	strict := map[string]bool{"STRICT_DEVMEM": true}
	for name, c := range map[string]struct {
		step Step
		text string
		help string
	}{
		"no capability":        {(&System{RawIO: No, UID: 1000}).Kcore(false), "uid 1000 and does not have it", "root"},
		"not known":            {(&System{}).Kcore(true), "cannot be told", "root"},
		"a mode":               {(&System{RawIO: Yes}).Kcore(true), "owner and mode of /proc/kcore", "root"},
		"lockdown":             {(&System{RawIO: Yes, Lockdown: "confidentiality", LockdownFrom: "here"}).Kcore(false), "confidentiality (here)", "qemu:"},
		"unseen":               {(&System{RawIO: Yes}).Kcore(false), "securityfs may not be mounted", "audit"},
		"a module":             {(&System{RawIO: Yes, Lockdown: "none", LockdownFrom: "here"}).Kcore(false), "lockdown is none by here", "audit"},
		"mem: strict":          {(&System{RawIO: Yes, Config: strict, ConfigFrom: "/c"}).DevMem(false, true), "CONFIG_STRICT_DEVMEM=y in /c", "gdb:"},
		"mem: strict, unknown": {(&System{RawIO: Yes}).DevMem(false, true), "(CONFIG_STRICT_DEVMEM)", "qemu:"},
		"mem: not in config":   {(&System{RawIO: Yes, Config: map[string]bool{}, ConfigFrom: "/c"}).DevMem(false, true), "though /c does not", "qemu:"},
		"mem: lockdown":        {(&System{RawIO: Yes, Lockdown: "integrity", LockdownFrom: "here"}).DevMem(false, false), "locked down for integrity", "gdb:"},
		"mem: no capability":   {(&System{RawIO: No}).DevMem(false, false), "/dev/mem is for root", "root"},
		"mem: unseen":          {(&System{RawIO: Yes}).DevMem(false, false), "must be locked down", "audit"},
	} {
		if c.step.Passed != No || !strings.Contains(c.step.Text, c.text) || !strings.Contains(c.step.Remedy, c.help) {
			t.Errorf("%s: %q; %q", name, c.step.Text, c.step.Remedy)
		}
	}
	for want, s := range map[string]System{
		"was built without CONFIG_X (/c)": {Config: map[string]bool{}, ConfigFrom: "/c"},
		"sandbox hides it":                {Config: map[string]bool{"X": true}},
		"CONFIG_X, or a container":        {},
	} {
		if got := s.Missing("/proc/x", "X"); !strings.Contains(got, want) {
			t.Errorf("%q", got)
		}
	}
}
