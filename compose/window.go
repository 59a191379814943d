// SPDX-License-Identifier: Apache-2.0

package compose

import "github.com/remora-go/remora"

// Window gives the part r of s as a Space in which r.Start is at the address at.
// Everything outside is remora.ErrUnmapped. The window is named after s and r. It is
// an error when r passes the last address, there or here. See Splice for the rest of
// Info.
func Window(s remora.Space, r remora.Range, at remora.Addr) (remora.Space, error) {
	part := Part{Range: remora.Range{Start: at, Size: r.Size}, Space: s, At: r.Start}
	return Splice(&SpliceOptions{Name: s.Info().Name + "[" + r.String() + "]"}, part)
}
