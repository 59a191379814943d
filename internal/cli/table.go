// SPDX-License-Identifier: Apache-2.0

package cli

// commands is the table of verbs, in the order in which help lists them.
func commands() []Command {
	return []Command{
		infoCommand(),
		mapsCommand(),
		cmdlineCommand(),
		readCommand(),
		writeCommand(),
		copyCommand(),
		symCommand(),
		dumpCommand(),
		psCommand(),
		vtopCommand(),
		structCommand(),
		dmesgCommand(),
		modsCommand(),
		vmcoreinfoCommand(),
		checkCommand(),
		convertCommand(),
		doctorCommand(),
		demoCommand(),
		completionCommand(),
		helpCommand(),
		versionCommand(),
	}
}
