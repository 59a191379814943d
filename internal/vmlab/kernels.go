// SPDX-License-Identifier: Apache-2.0

//go:build linux

package vmlab

import (
	"fmt"
	"strings"
)

// Names of kernels.
const (
	AMD64v6_1   = "amd64-6.1"
	AMD64v6_12  = "amd64-6.12"
	AMD64v6_17  = "amd64-6.17"
	AMD64v7_2   = "amd64-7.2"
	ARM64v6_1   = "arm64-6.1"
	ARM64v6_12  = "arm64-6.12"
	ARM64v7_2   = "arm64-7.2"
	RISCV64v7_2 = "riscv64-7.2"
)

// Kernel is one that the laboratory boots: exact packages of Debian's.
type Kernel struct {
	Name    string   // architecture and series
	Arch    string   // as Debian and Go name it
	Suites  []string // of the mirror, where it is looked for in this order
	ABI     string   // the changing part of the packages' names
	Series  string   // a regular expression for what else ABI may be
	Version string
	// Packages are the names, with a * for ABI, and the SHA-256 of each pinned file.
	Packages []Package
}

// Package is a package of a kernel.
type Package struct {
	Name   string
	SHA256 string
}

// Kernels gives every kernel there is.
func Kernels() []Kernel {
	const (
		series61  = `6\.1\.0-[0-9]+`
		series612 = `6\.12\.[0-9]+\+deb12(\.[0-9]+)?`
		series617 = `6\.17\.[0-9]+\+deb13(\.[0-9]+)?`
		series72  = `7\.2\.[0-9]+\+deb1[0-9](\.[0-9]+)?`
	)
	sid := []string{"sid", "trixie-backports"}
	return []Kernel{
		{AMD64v6_1, "amd64", []string{"bookworm"}, "6.1.0-50", series61, "6.1.176-1", []Package{
			{"linux-image-*-cloud-amd64", "efe19f605b6f54a8352e68d85a629abb2d30b72a085faef603a9152590baa791"}}},
		{AMD64v6_12, "amd64", []string{"bookworm-backports"}, "6.12.95+deb12", series612, "6.12.95-1~bpo12+1", []Package{
			{"linux-image-*-cloud-amd64", "69c92f43b23821de79576fa4d7c86e2924ae2c1b247a47cc5ed9339e220fbcb7"}}},
		{AMD64v6_17, "amd64", []string{"trixie-backports"}, "6.17.13+deb13", series617, "6.17.13-1~bpo13+1", []Package{
			{"linux-image-*-cloud-amd64", "2ac533a36b0c5107527166716414a4d04b00f7108e419df2084ca5aec268d1ff"}}},
		{AMD64v7_2, "amd64", sid, "7.2.13+deb14", series72, "7.2.13-1", []Package{
			{"linux-binary-*-cloud-amd64", "03e41f1c34c16583462f029e81944a85ebcdb78098c258dedfa1cfdd680a27f8"},
			{"linux-modules-*-cloud-amd64", "97d79546041e3fdfb44dccff180938894d1bf8eb298f091f88539c1b37080bef"}}},
		{ARM64v6_1, "arm64", []string{"bookworm"}, "6.1.0-50", series61, "6.1.176-1", []Package{
			{"linux-image-*-cloud-arm64", "9d41a53f5d687ae1a33cf546d0ed8be955f72e5f9e97b2b4e45e41dff3353b97"}}},
		{ARM64v6_12, "arm64", []string{"bookworm-backports"}, "6.12.95+deb12", series612, "6.12.95-1~bpo12+1", []Package{
			{"linux-image-*-cloud-arm64", "3d1283d15afe078c9fa7a4de66d989fc7d84103912dc2792d5a85bfdb3eb88b5"}}},
		{ARM64v7_2, "arm64", sid, "7.2.13+deb14", series72, "7.2.13-1", []Package{
			{"linux-binary-*-cloud-arm64", "6468b94955d8b5e8a2b3b36a826851ad0aa431c7340f6401e20b065dc08e4f5d"},
			{"linux-modules-*-cloud-arm64", "e356ce4b166e33d7d9a14683bf10e18265ba9b1b255bfcb963b19be5d42cb0fa"}}},
		{RISCV64v7_2, "riscv64", sid, "7.2.13+deb14", series72, "7.2.13-1", []Package{
			{"linux-binary-*-riscv64", "de8e75884c95b246b4bf72b9dc1c004c535f786da8743006bd341e058e948e99"},
			{"linux-modules-*-riscv64", "1fb9b12f856a9d92d14702dd6e3332b28967eec4b1b899b76008a4babd7bc27f"}}},
	}
}

// KernelNamed gives the kernel of a name.
func KernelNamed(name string) (Kernel, error) {
	for _, k := range Kernels() {
		if k.Name == name {
			return k, nil
		}
	}
	return Kernel{}, fmt.Errorf("vmlab: no kernel %q", name)
}

// packageName gives the name of a package for an ABI.
func (p Package) packageName(abi string) string { return strings.ReplaceAll(p.Name, "*", abi) }
