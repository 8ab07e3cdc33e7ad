/** What shells source. Where nothing is proposed they complete the names of files. */

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** `--` before the words: they are arguments, whatever they look like. */
export const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: `_heirloom() {
  local IFS=$'\\n'
  COMPREPLY=($(heirloom complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _heirloom heirloom
`,
  zsh: `_heirloom() {
  local -a proposals
  proposals=("\${(@f)$(heirloom complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "\${proposals[*]}" ]]; then
    compadd -- "\${proposals[@]}"
  else
    _files
  fi
}
compdef _heirloom heirloom
`,
  fish: `complete -c heirloom -a '(heirloom complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)'
`,
};
