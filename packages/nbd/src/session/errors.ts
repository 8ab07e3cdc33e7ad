/** Errno values, as NBD says them: few are known on the wire, and the rest is EINVAL. */
import { constants } from "node:os";
import type { Errno } from "@heirloom/block";
import {
  NBD_EINVAL,
  NBD_EIO,
  NBD_ENOMEM,
  NBD_ENOSPC,
  NBD_ENOTSUP,
  NBD_EOVERFLOW,
  NBD_EPERM,
} from "../protocol/constants.ts";

const { errno } = constants;
const known: Readonly<Record<number, number>> = {
  [errno.EPERM]: NBD_EPERM,
  [errno.EROFS]: NBD_EPERM,
  [errno.EIO]: NBD_EIO,
  [errno.ENOMEM]: NBD_ENOMEM,
  [errno.ENOSPC]: NBD_ENOSPC,
  [errno.EDQUOT]: NBD_ENOSPC,
  [errno.EFBIG]: NBD_ENOSPC,
  [errno.EOVERFLOW]: NBD_EOVERFLOW,
  [errno.ENOTSUP]: NBD_ENOTSUP,
  [errno.EOPNOTSUPP]: NBD_ENOTSUP,
};

export function wireError(value: Errno): number {
  return known[value] ?? NBD_EINVAL;
}
