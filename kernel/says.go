// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/remora-go/remora"
	"github.com/remora-go/remora/paging"
)

// bannerStart is how linux_banner begins (init/version.c); the template of the text has a
// % where the release is.
const bannerStart = "Linux version "

// says looks at what the kernel says of itself in an image that lies at a base: the release
// in the first namespace of names, and the banner. What can be read must agree; what cannot
// is passed over. why is not empty where something does not.
func (f *finder) says(base uint64) (checked []string, why string) {
	release := f.info.Release()
	at, ok := f.info.Symbol("init_uts_ns")
	off, known := f.info.Value("OFFSET(uts_namespace.name)")
	if ok && known && release != "" {
		at += remora.Addr(off) + 2*unameLen // behind the names of the system and the node
		var b [unameLen]byte
		if readPhys(f.ctx, f.phys, at+remora.Addr(base), b[:]) {
			text, _, _ := bytes.Cut(b[:], []byte{0})
			if string(text) != release {
				return nil, fmt.Sprintf("the release at %v is %s, not %s", at, strconv.Quote(shorten(string(text))), strconv.Quote(shorten(release)))
			}
			checked = append(checked, "the release there is "+release)
		}
	}
	if va, ok := f.symbol("linux_banner"); ok {
		if text, read := f.banner(va + remora.Addr(base)); read {
			version, ok := bannerRelease(text)
			if !ok || release != "" && version != release {
				return nil, fmt.Sprintf("linux_banner at %v is %s", va, strconv.Quote(shorten(text)))
			}
			f.release = version
			checked = append(checked, "linux_banner names "+version)
		}
	}
	return checked, ""
}

// banner reads the beginning of the banner at a physical address.
func (f *finder) banner(at remora.Addr) (text string, read bool) {
	var b [len(bannerStart) + unameLen]byte
	read = readPhys(f.ctx, f.phys, at, b[:])
	return string(b[:]), read
}

// bannerRelease gives the release that a banner names.
func bannerRelease(text string) (release string, ok bool) {
	rest, ok := strings.CutPrefix(text, bannerStart)
	release, _, _ = strings.Cut(rest, " ")
	return release, ok && release != "" && release[0] >= '0' && release[0] <= '9'
}

// version is that of the kernel.
func (f *finder) version() paging.Version {
	return versionOf(cmp.Or(f.info.Release(), f.release))
}
