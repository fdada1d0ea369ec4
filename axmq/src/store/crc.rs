//! CRC-32C, the checksum of a record (RFC 3720, appendix B.4). Eight bytes a step by tables that
//! the compiler computes: a checksum is no reason for a dependency.

/// The Castagnoli polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82F6_3B78;

const TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (POLYNOMIAL * (crc & 1));
            bit += 1;
        }
        tables[0][byte] = crc;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let below = tables[table - 1][byte];
            tables[table][byte] = (below >> 8) ^ tables[0][(below & 0xFF) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

fn entry(table: usize, byte: u32) -> u32 {
    // Both are in range by construction; the compiler sees it too.
    TABLES[table & 7][(byte & 0xFF) as usize]
}

/// A checksum that is computed piece by piece.
#[derive(Copy, Clone, Debug)]
pub(super) struct Crc(u32);

impl Crc {
    pub(super) const fn new() -> Self {
        Self(!0)
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        let mut crc = self.0;
        let (eights, rest) = bytes.as_chunks::<8>();
        for eight in eights {
            let [a, b, c, d, e, f, g, h] = eight.map(u32::from);
            crc ^= a | b << 8 | c << 16 | d << 24;
            crc = entry(7, crc)
                ^ entry(6, crc >> 8)
                ^ entry(5, crc >> 16)
                ^ entry(4, crc >> 24)
                ^ entry(3, e)
                ^ entry(2, f)
                ^ entry(1, g)
                ^ entry(0, h);
        }
        for byte in rest {
            crc = (crc >> 8) ^ entry(0, crc ^ u32::from(*byte));
        }
        self.0 = crc;
    }

    pub(super) const fn finish(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn crc(bytes: &[u8]) -> u32 {
        let mut crc = Crc::new();
        crc.add(bytes);
        crc.finish()
    }

    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(crc(b"123456789"), 0xE306_9283);
        assert_eq!(crc(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc(&[0xFF; 32]), 0x62A8_AB43);
    }

    proptest! {
        #[test]
        fn pieces_come_to_the_same(
            bytes in prop::collection::vec(any::<u8>(), 0..64),
            at in 0_usize..64,
        ) {
            let (left, right) = bytes.split_at(at.min(bytes.len()));
            let mut pieces = Crc::new();
            pieces.add(left);
            pieces.add(right);
            prop_assert_eq!(pieces.finish(), crc(&bytes));
        }
    }
}
