/** Sizes of the shared buffers, for the side that loads nothing of the code under test. */
export const diskBytes = 16_384;
export const disksMax = 8;
export const imagesMax = 16;
export const oracleBytes = 16_384;
export const registryBytes = 65_536;
