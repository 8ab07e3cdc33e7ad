/**
 * What shells source. Where nothing is proposed they complete the names of files.
 *
 * The daemon's options take lists of what may be anything, so of it the options are completed, and how their values begin.
 */
import { longOptions } from "../../storage-daemon/arguments.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** How values of the daemon's options begin. */
const BEGINNINGS: Readonly<Record<string, readonly string[]>> = {
  blockdev: [
    "file,",
    "host_device,",
    "raw,",
    "nbd,",
    "throttle,",
    "null-co,",
    "blkdebug,",
    "copy-before-write,",
    "snapshot-access,",
  ].map((driver) => `driver=${driver}node-name=`),
  chardev: ["socket,id=", "stdio,id=", "null,id="],
  export: ["type=nbd,id="],
  "log-format": ["text", "json"],
  monitor: ["chardev="],
  "nbd-server": ["addr.type=unix,addr.path=", "addr.type=inet,addr.host="],
  object: ["help", "secret,id=", "throttle-group,id=", "tls-creds-psk,id=", "tls-creds-x509,id="],
};

const daemonOptions = longOptions()
  .map((name) => `--${name}`)
  .join(" ");

/** Words of a POSIX shell: nothing in them needs quotes. */
const daemonCases = Object.entries(BEGINNINGS)
  .map(([option, values]) => `    --${option}) proposed="${values.join(" ")}" ;;`)
  .join("\n");

const daemonFish = longOptions()
  .map((name) => {
    const values = BEGINNINGS[name];
    const takes = name === "help" || name === "version" || name === "daemonize" ? "" : " -r";
    if (values === undefined) return `complete -c heirloom-storage-daemon -l ${name}${takes}\n`;
    return `complete -c heirloom-storage-daemon -l ${name} -x -a '(__heirloom_values ${values.join(" ")})'\n`;
  })
  .join("");

/** `--` before the words: they are arguments, whatever they look like. */
export const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: `_heirloom() {
  local IFS=$'\\n'
  COMPREPLY=($(heirloom complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _heirloom heirloom
_heirloom_storage_daemon() {
  local proposed="${daemonOptions}"
  # Bash takes words apart at "=", and puts what is proposed behind the last one.
  local line="\${COMP_LINE:0:COMP_POINT}" parted=""
  local word="\${line##* }" before="\${line% *}"
  [[ "$word" == *=* && "$COMP_WORDBREAKS" == *=* ]] && parted="\${word%=*}="
  case "\${before##* }" in
${daemonCases}
    --journal|--metrics|--pidfile) return ;;
  esac
  COMPREPLY=($(compgen -W "$proposed" -- "$word"))
  COMPREPLY=("\${COMPREPLY[@]#"$parted"}")
}
complete -o default -o nospace -F _heirloom_storage_daemon heirloom-storage-daemon
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
_heirloom_storage_daemon() {
  local proposed="${daemonOptions}"
  case "\${words[CURRENT-1]}" in
${daemonCases}
    --journal|--metrics|--pidfile) _files; return ;;
  esac
  compadd -S '' -- \${=proposed}
}
compdef _heirloom_storage_daemon heirloom-storage-daemon
`,
  fish: `function __heirloom_complete
  set -l found (heirloom complete -- (commandline -opc)[2..-1] (commandline -ct) 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c heirloom -f -a '(__heirloom_complete)'
function __heirloom_values
  set -l found (string match -- (commandline -ct)'*' $argv)
  if test (count $found) -gt 0
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
${daemonFish}`,
};
