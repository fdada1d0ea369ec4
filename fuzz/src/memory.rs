//! Bytes turned into the operations of the oracle tests of `slabmem` and `sharedbuf`.

#[path = "../../sharedbuf/tests/model/queue.rs"]
mod queue;
#[path = "../../slabmem/tests/model/slab.rs"]
mod slab;

/// Operations at most, since the models are quadratic.
const OPS_MAX: usize = 200;

/// Five bytes an operation: which, and two numbers.
fn words(data: &[u8]) -> impl Iterator<Item = (u8, usize, usize)> {
    data.chunks_exact(5).take(OPS_MAX).map(|op| {
        let first = usize::from(u16::from_le_bytes([op[1], op[2]]));
        (op[0], first, usize::from(u16::from_le_bytes([op[3], op[4]])))
    })
}

/// The first byte says whether there is a cache, the rest are operations.
pub(crate) fn run_queue(data: &[u8]) {
    use queue::Op;
    let Some((cached, rest)) = data.split_first() else {
        return;
    };
    let ops: Vec<Op> = words(rest)
        .map(|(which, a, b)| {
            let class = which >> 4;
            match which & 15 {
                0 | 1 => Op::Copy(a % 2_000, class),
                2 => Op::With(a % 20_000, class),
                3 => Op::Slice(a % 4_000, b % 20_000, class),
                4 => Op::Parts(b % 100, a % 4_000, class),
                5 => Op::Pieces(b % 100, a % 4_000, class),
                6 => Op::Recipe(b % 700, b % 50, a % 4_000, class),
                7 => Op::Run(b as u8, a, class),
                8 | 9 => Op::Send(b % 8, a),
                10 => Op::SendAll,
                11 => Op::DropOldest,
                12 => Op::DropMany(b as u8),
                13 if b % 2 == 1 => Op::DropUnsent,
                13 => Op::CopyOutSmall,
                14 => Op::Prepare,
                _ => Op::Clear,
            }
        })
        .collect();
    queue::run((cached & 1 == 1).then(|| sharedbuf::BlockCache::new(2)), &ops);
}

/// The first two bytes are the limit, or none where they are zero; the rest are operations.
pub(crate) fn run_slab(data: &[u8]) {
    use slab::Op;
    let Some(([low, high], rest)) = data.split_first_chunk::<2>().map(|(l, r)| (*l, r)) else {
        return;
    };
    let limit = match u16::from_le_bytes([low, high]) {
        0 => u32::MAX,
        limit => u32::from(limit % 6_000),
    };
    let ops: Vec<Op> = words(rest)
        .map(|(which, a, b)| match which % 16 {
            0 | 1 => Op::Insert(a as u32),
            2 | 3 => Op::InsertMany((a % 700) as u16),
            4 => Op::EntryUnused,
            5 | 6 => Op::Remove(a),
            7 | 8 => Op::RemoveMany(a, b as u8),
            9 => Op::Get(a),
            10 => Op::Change(a, b as u32),
            11 => Op::ChangeTwo(a, b),
            12 => Op::At(a as u32),
            13 => Op::Forge((b as u64) << 32 | a as u64),
            14 => Op::Retain(1 + (a % 4) as u32),
            _ => match a % 4 {
                0 => Op::Iterate,
                1 => Op::ChangeAll,
                2 => Op::Trim,
                _ => Op::Clear,
            },
        })
        .collect();
    slab::run(limit, &ops);
}
