//! Operations on topicmap's structures, checked against its own naive models.

use arbitrary::{Arbitrary as _, Result, Unstructured};
use topicmap::{TopicMap, TopicStore};

use crate::model::{LIMITS, MapModel, MapOp, StoreModel, StoreOp};

/// Names are built of these, so that they meet; the last stands for a string of the fuzzer's.
const LEVELS: [&str; 9] = [
    "a",
    "b",
    "",
    "é",
    "+",
    "#",
    "$x",
    "a-longer-level-name",
    "?",
];

/// Subscriptions come, go and are matched.
pub fn map(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let shapes = [0, 2, 64][usize::from(u8::arbitrary(&mut u).unwrap_or(0) % 3)];
    let mut model = MapModel::new(TopicMap::with_shapes_max(LIMITS.seed, shapes));
    while let (false, Ok(op)) = (u.is_empty(), map_op(&mut u)) {
        model.apply(&op);
    }
    model.check_all();
}

/// Topics are stored, removed, and scanned while they change.
pub fn store(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let mut model = StoreModel::new(TopicStore::new(u64::arbitrary(&mut u).unwrap_or(0)));
    while let (false, Ok(op)) = (u.is_empty(), store_op(&mut u)) {
        model.apply(&op);
    }
    model.finish();
}

fn name(u: &mut Unstructured<'_>) -> Result<String> {
    let len = u.int_in_range(1..=6)?;
    let mut levels = vec![];
    for _ in 0..len {
        levels.push(match *u.choose(&LEVELS)? {
            "?" => text(u)?,
            level => level,
        });
    }
    Ok(levels.join("/"))
}

/// A string without U+0000, which the codec keeps from the structures and they do not look for.
fn text<'a>(u: &mut Unstructured<'a>) -> Result<&'a str> {
    let text = <&str>::arbitrary(u)?;
    Ok(if text.contains('\0') { "nul" } else { text })
}

fn map_op(u: &mut Unstructured<'_>) -> Result<MapOp> {
    Ok(match u.int_in_range(0..=7)? {
        0..=2 => MapOp::Insert(name(u)?, u.int_in_range(0..=5)?, u.arbitrary()?),
        3 => MapOp::Remove(name(u)?, u.int_in_range(0..=5)?),
        4 => MapOp::RemoveById(u.int_in_range(0..=63)?, u.int_in_range(0..=5)?),
        _ => MapOp::Match(name(u)?),
    })
}

fn store_op(u: &mut Unstructured<'_>) -> Result<StoreOp> {
    Ok(match u.int_in_range(0..=7)? {
        0..=2 => StoreOp::Insert(name(u)?, u.arbitrary()?),
        3 => StoreOp::Remove(name(u)?),
        4 => StoreOp::RemoveNth(u.int_in_range(0..=63)?),
        5 => StoreOp::Scan(name(u)?, u.int_in_range(0..=9)?),
        6 => StoreOp::Begin(name(u)?),
        _ => StoreOp::Continue(u.int_in_range(0..=9)?, u.int_in_range(0..=9)?),
    })
}
