/**
 * The order in which QEMU writes the members of an object: that of its hash table, 512 buckets by the hash of Samba's tdb,
 * in each bucket the member that came last first. No client may rely on it, but some people compare transcripts byte by
 * byte, and our tests do.
 */
const buckets = 512;

const known = new Map<string, number>();
/** Names come from clients too, so what is remembered is bounded. */
const knownMax = 4096;

function bucketOf(name: string): number {
  let bucket = known.get(name);
  if (bucket === undefined) {
    bucket = hash(Buffer.from(name)) % buckets;
    if (known.size < knownMax) known.set(name, bucket);
  }
  return bucket;
}

/** 32 bits. */
function hash(bytes: Uint8Array): number {
  let value = Math.imul(0x238f13af, bytes.length);
  bytes.forEach((byte, index) => (value = (value + (byte << ((index * 5) % 24))) | 0));
  return (Math.imul(1103515243, value) + 12345) >>> 0;
}

/** Names in the order of QEMU's hash table, given the order in which they came. */
export function dictOrder(names: Iterable<string>): string[] {
  const placed = [...names].map((name, index) => ({ name, index, bucket: bucketOf(name) }));
  placed.sort((one, other) => one.bucket - other.bucket || other.index - one.index);
  return placed.map(({ name }) => name);
}
