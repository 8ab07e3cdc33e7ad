/**
 * The numbers of the NBD protocol, in the order of its text (doc/proto.md of the NetworkBlockDevice project, with the
 * extension of extended headers). All integers on the wire are big-endian.
 */

// Handshake.
/** "NBDMAGIC" */
export const NBD_MAGIC = 0x4e42444d41474943n;
/** "IHAVEOPT": from the server after its magic, and before each option of the client. */
export const OPTION_MAGIC = 0x49484156454f5054n;
export const OPTION_REPLY_MAGIC = 0x0003e889045565a9n;

/** Handshake flags, of the server and of the client alike. */
export const FLAG_FIXED_NEWSTYLE: number = 1 << 0;
export const FLAG_NO_ZEROES: number = 1 << 1;

export const OPT_EXPORT_NAME = 1;
export const OPT_ABORT = 2;
export const OPT_LIST = 3;
export const OPT_STARTTLS = 5;
export const OPT_INFO = 6;
export const OPT_GO = 7;
export const OPT_STRUCTURED_REPLY = 8;
export const OPT_LIST_META_CONTEXT = 9;
export const OPT_SET_META_CONTEXT = 10;
export const OPT_EXTENDED_HEADERS = 11;

export const REP_ACK = 1;
export const REP_SERVER = 2;
export const REP_INFO = 3;
export const REP_META_CONTEXT = 4;
/** Set in every reply type that is an error. */
export const REP_FLAG_ERROR: number = 2 ** 31;
export const REP_ERR_UNSUP: number = 2 ** 31 + 1;
export const REP_ERR_POLICY: number = 2 ** 31 + 2;
export const REP_ERR_INVALID: number = 2 ** 31 + 3;
export const REP_ERR_PLATFORM: number = 2 ** 31 + 4;
export const REP_ERR_TLS_REQD: number = 2 ** 31 + 5;
export const REP_ERR_UNKNOWN: number = 2 ** 31 + 6;
export const REP_ERR_SHUTDOWN: number = 2 ** 31 + 7;
export const REP_ERR_BLOCK_SIZE_REQD: number = 2 ** 31 + 8;
export const REP_ERR_TOO_BIG: number = 2 ** 31 + 9;
export const REP_ERR_EXT_HEADER_REQD: number = 2 ** 31 + 10;

export const INFO_EXPORT = 0;
export const INFO_NAME = 1;
export const INFO_DESCRIPTION = 2;
export const INFO_BLOCK_SIZE = 3;

// Transmission flags: what an export can do.
export const FLAG_HAS_FLAGS: number = 1 << 0;
export const FLAG_READ_ONLY: number = 1 << 1;
export const FLAG_SEND_FLUSH: number = 1 << 2;
export const FLAG_SEND_FUA: number = 1 << 3;
export const FLAG_ROTATIONAL: number = 1 << 4;
export const FLAG_SEND_TRIM: number = 1 << 5;
export const FLAG_SEND_WRITE_ZEROES: number = 1 << 6;
/** Only where structured replies or extended headers were negotiated. */
export const FLAG_SEND_DF: number = 1 << 7;
export const FLAG_CAN_MULTI_CONN: number = 1 << 8;
export const FLAG_SEND_CACHE: number = 1 << 10;
export const FLAG_SEND_FAST_ZERO: number = 1 << 11;
/** Only with extended headers: BLOCK_STATUS takes a payload that names the contexts wanted. */
export const FLAG_BLOCK_STATUS_PAYLOAD: number = 1 << 12;

// Transmission.
export const REQUEST_MAGIC = 0x25609513;
export const SIMPLE_REPLY_MAGIC = 0x67446698;
export const STRUCTURED_REPLY_MAGIC = 0x668e33ef;
export const EXTENDED_REQUEST_MAGIC = 0x21e41c71;
export const EXTENDED_REPLY_MAGIC = 0x6e8a278c;

/** Request: magic u32, flags u16, type u16, cookie u64, offset u64, length u32. */
export const REQUEST_BYTES = 28;
/** With extended headers: magic u32, flags u16, type u16, cookie u64, offset u64, length u64. */
export const EXTENDED_REQUEST_BYTES = 32;
/** Simple reply: magic u32, error u32, cookie u64. */
export const SIMPLE_REPLY_BYTES = 16;
/** Structured reply chunk: magic u32, flags u16, type u16, cookie u64, length u32. */
export const STRUCTURED_REPLY_BYTES = 20;
/** Extended reply chunk: magic u32, flags u16, type u16, cookie u64, offset u64, length u64. */
export const EXTENDED_REPLY_BYTES = 32;

export const CMD_READ = 0;
export const CMD_WRITE = 1;
export const CMD_DISC = 2;
export const CMD_FLUSH = 3;
export const CMD_TRIM = 4;
export const CMD_CACHE = 5;
export const CMD_WRITE_ZEROES = 6;
export const CMD_BLOCK_STATUS = 7;

export const CMD_FLAG_FUA: number = 1 << 0;
export const CMD_FLAG_NO_HOLE: number = 1 << 1;
export const CMD_FLAG_DF: number = 1 << 2;
export const CMD_FLAG_REQ_ONE: number = 1 << 3;
export const CMD_FLAG_FAST_ZERO: number = 1 << 4;
/** Only with extended headers: the length is that of a payload, not of an effect. */
export const CMD_FLAG_PAYLOAD_LEN: number = 1 << 5;

export const REPLY_FLAG_DONE: number = 1 << 0;
export const REPLY_NONE = 0;
export const REPLY_OFFSET_DATA = 1;
export const REPLY_OFFSET_HOLE = 2;
export const REPLY_BLOCK_STATUS = 5;
export const REPLY_BLOCK_STATUS_EXT = 6;
/** Set in every chunk type that is an error. */
export const REPLY_FLAG_ERROR: number = 1 << 15;
export const REPLY_ERROR: number = (1 << 15) + 1;
export const REPLY_ERROR_OFFSET: number = (1 << 15) + 2;

/** Errors of transmission: the errno values of Linux, but only these. */
export const NBD_EPERM = 1;
export const NBD_EIO = 5;
export const NBD_ENOMEM = 12;
export const NBD_EINVAL = 22;
export const NBD_ENOSPC = 28;
export const NBD_EOVERFLOW = 75;
export const NBD_ENOTSUP = 95;
export const NBD_ESHUTDOWN = 108;

// Metadata contexts.
export const CONTEXT_ALLOCATION = "base:allocation";
export const CONTEXT_DEPTH = "qemu:allocation-depth";
/** Followed by the name of a bitmap. */
export const CONTEXT_BITMAP = "qemu:dirty-bitmap:";
/** base:allocation */
export const STATE_HOLE: number = 1 << 0;
export const STATE_ZERO: number = 1 << 1;
/** qemu:dirty-bitmap: */
export const STATE_DIRTY: number = 1 << 0;

// Limits of the protocol.
/** UTF-8 bytes of an export's name, a context's name, a description, an error's text. */
export const STRING_BYTES_MAX = 4096;
/** What a client may assume where a server says nothing of block sizes. */
export const PAYLOAD_BYTES_DEFAULT: number = 32 * 1024 * 1024;
