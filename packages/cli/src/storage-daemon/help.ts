/** What `--help` says: the layout that users of qemu-storage-daemon know. */
export function helpText(program: string): string {
  return `Usage: ${program} [options]
Heirloom storage daemon

  -h, --help             display this help and exit
  -T, --trace <anything> accepted, without effect
  -V, --version          output version information and exit

  --blockdev [driver=]<driver>[,node-name=<N>][,discard=ignore|unmap]
             [,cache.direct=on|off][,cache.no-flush=on|off]
             [,read-only=on|off][,auto-read-only=on|off]
             [,force-share=on|off][,detect-zeroes=on|off|unmap]
             [,driver specific parameters...]
                         configure a block node

  --chardev socket,id=<id>,path=<path>,server=on,wait=off
  --chardev socket,id=<id>,host=<host>,port=<port>,server=on,wait=off
  --chardev stdio,id=<id>
  --chardev null,id=<id>
                         configure a character device

  --daemonize            go to the background, and have the parent exit
                         once startup is complete

  --export [type=]nbd,id=<id>,node-name=<node-name>[,name=<export-name>]
           [,writable=on|off][,description=<text>]
           [,bitmaps.0=<bitmap>][,allocation-depth=on|off]
                         export a node over NBD (requires --nbd-server)

  --journal [place=]beside|<directory>[,bound=<size>][,allow-tmpfs=on|off]
                         keep persistent bitmaps of raw images: in a file
                         beside each image (IMAGE.heirloom; of devices in
                         /var/lib/heirloom), or in a directory. After a power
                         loss at most <bound> bytes beyond what was written
                         count as dirty (default 4G)

  --log-format text|json how lines on standard error are written

  --metrics <path>       serve Prometheus metrics over HTTP on a Unix
  --metrics <host>:<port>
                         socket, or on a port of this machine

  --monitor [chardev=]name[,mode=control][,pretty[=on|off]]
                         configure a QMP monitor

  --nbd-server addr.type=inet,addr.host=<host>,addr.port=<port>
               [,tls-creds=<id>][,max-connections=<n>]
  --nbd-server addr.type=unix,addr.path=<path>
               [,tls-creds=<id>][,max-connections=<n>]
                         start an NBD server for exporting block nodes

  --object help          list object types that can be added
  --object <type>,help   list properties of the given object type
  --object <type>,id=<id>[,<property>=<value>...]
                         create an object

  --pidfile <path>       write process ID to a file after startup

Options are read from left to right: what is used must be defined before.
In a value, a comma is written twice. Every option that takes key=value
also takes JSON: --blockdev '{"driver": "file", ...}'
`;
}
