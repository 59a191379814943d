// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"
)

func versionCommand() Command {
	return Command{
		Name:  "version",
		Short: "print the version of remora",
		Long:  "Prints the version, what it was built from, and for which system.",
		New: func(*pflag.FlagSet) Run {
			return func(context.Context, *Env, []string) (Result, error) { return buildVersion(), nil }
		},
	}
}

type version struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// buildVersion asks what the linker has put into the program.
func buildVersion() *version {
	v := &version{Version: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if info.Main.Version != "" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func (v *version) Text(w io.Writer) error {
	_, err := fmt.Fprintf(w, "remora %s %s %s/%s\n", v.Version, v.Go, v.OS, v.Arch)
	return err
}
