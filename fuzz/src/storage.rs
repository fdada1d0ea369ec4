//! Records of the store, as a disk may give them back.

use axmq::store::check_record;

/// The first byte chooses the space, the second is the length of the key. Both as they stand, and
/// with a checksum that fits, so that what lies behind it is reached too.
pub fn record(data: &[u8]) {
    let Some(([space, n], rest)) = data.split_first_chunk() else {
        return;
    };
    let (key, value) = rest.split_at(usize::from(*n).min(rest.len()));
    let _ = check_record(*space, key, value);
    let mut sealed = value.to_vec();
    let crc = crc([&[*space], key, value].concat().as_slice());
    sealed.extend_from_slice(&crc.to_be_bytes());
    let is_record = check_record(*space, key, &sealed).is_ok();
    // Another key is another record: the checksum is over it too. What is in quarantine has none.
    if is_record && *space != 7 {
        assert!(check_record(*space, &[key, &[0]].concat(), &sealed).is_err());
    }
}

/// CRC-32C, bit by bit.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 * (crc & 1));
        }
    }
    !crc
}
