//! Numbers in bytes, and their checksum.

/// The 16-bit number at a place.
pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The 32-bit number at a place.
pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The same as the journal has them, the other way round.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    le32(bytes, at).swap_bytes()
}

/// A number of which the halves are apart.
pub(super) fn wide(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// ext4's checksum of bytes that follow those of which `before` is the checksum: CRC-32C without its last turn.
pub(super) fn checksum(before: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!before, bytes)
}

/// The same of bytes in which some at one place count as zeros.
pub(super) fn checksum_without(before: u32, bytes: &[u8], place: std::ops::Range<usize>) -> u32 {
    let zeros = vec![0; place.len()];
    let head = checksum(before, &bytes[..place.start]);
    checksum(checksum(head, &zeros), &bytes[place.end..])
}
