/**
 * Where the sidecar's bytes go. Everything that the journal writes or syncs goes through this, so that a test can record it
 * and put the file together as any crash could have left it.
 *
 * Verbs are synchronous and answer an errno. A write is atomic per sector of 512 bytes at most: a kill or a power loss may
 * leave any of its sectors as they were.
 */
import { type Errno, readFully, syncData, writeFully } from "@heirloom/block";

export interface Storage {
  /** Fills the buffer; what lies past the end reads as zeroes. */
  read(buffer: Uint8Array, offset: number): Errno;
  write(buffer: Uint8Array, offset: number): Errno;
  /** Everything written before is durable when it returns 0. After an error nothing is known of what was written. */
  sync(): Errno;
}

/** An open file: the descriptor is the process's, so each thread makes its own of these from the number. */
export class FileStorage implements Storage {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  read(buffer: Uint8Array, offset: number): Errno {
    return readFully(this.fd, buffer, offset);
  }
  write(buffer: Uint8Array, offset: number): Errno {
    return writeFully(this.fd, buffer, offset);
  }
  sync(): Errno {
    return syncData(this.fd);
  }
}
