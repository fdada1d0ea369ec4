//! Bringing a store of an earlier format to the one that this program writes.
//!
//! First a copy of the whole store is made beside it, under the name of its format; then the store
//! is changed in place, in one atomic write that also says the new format. So a crash leaves the
//! old store, with or without a copy, or the new one with it, and the next start goes on from
//! there.

use std::fmt;

use super::copy::CopyError;
use super::engine::{Engine, EngineError, Space, WriteBatch};
use super::record::{key, seal, unseal};

/// The format that this program writes, and the newest that it reads.
///
/// - 1: the first.
/// - 2: with bans, and a session says who wrote its will. All other records are as they were, and a
///   session of the first format is read as it is.
pub(crate) const FORMAT: u32 = 2;

/// Why a store cannot be used.
#[derive(Debug)]
pub(crate) enum FormatError {
    /// A later version of the broker wrote it.
    Newer(u32),
    /// An earlier version wrote it, and there is no copy of it.
    NoCopy(u32, CopyError),
    Engine(EngineError),
}

impl From<EngineError> for FormatError {
    fn from(error: EngineError) -> Self {
        Self::Engine(error)
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer(format) => write!(
                f,
                "it has format {format}, and this version of axmq reads up to {FORMAT}: use the \
                 version that wrote it, or a newer one"
            ),
            Self::NoCopy(format, error) => write!(
                f,
                "it has format {format}, and is copied before it is changed to {FORMAT}; that \
                 does not work: {error}; nothing is changed"
            ),
            Self::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FormatError {}

/// The format of a store; `None` for one that is empty. Where the record of it is lost it is taken
/// for the first: each record says its own version, and who is upgraded once more than needed only
/// has a copy more.
pub(crate) fn format_of<E: Engine>(engine: &E) -> Result<Option<u32>, FormatError> {
    let value = engine.get(Space::Meta, key::FORMAT)?;
    let body = value
        .as_deref()
        .and_then(|value| unseal(Space::Meta, key::FORMAT, value).ok());
    if let Some(bytes) = body.and_then(|body| body.try_into().ok()) {
        return match u32::from_be_bytes(bytes) {
            newer if newer > FORMAT => Err(FormatError::Newer(newer)),
            format => Ok(Some(format)),
        };
    }
    for space in Space::ALL {
        if engine.last(space)?.is_some() {
            return Ok(Some(1));
        }
    }
    Ok(None)
}

/// The record of the format that this program writes.
pub(crate) fn put_format(batch: &mut WriteBatch) {
    let value = seal(Space::Meta, key::FORMAT, |out| {
        out.extend_from_slice(&FORMAT.to_be_bytes());
    });
    batch.put(Space::Meta, key::FORMAT, value);
}

/// Upgrades a store that is older, after `copy` has made a copy that is durable. Returns the
/// format that it had, if it was another.
pub(crate) fn upgrade<E: Engine>(
    engine: &mut E,
    copy: impl FnOnce(&E, u32) -> Result<(), CopyError>,
) -> Result<Option<u32>, FormatError> {
    let Some(found) = format_of(engine)?.filter(|found| *found < FORMAT) else {
        return Ok(None);
    };
    copy(engine, found).map_err(|error| FormatError::NoCopy(found, error))?;
    let mut batch = WriteBatch::default();
    // From 1 to 2: a space more, which is empty.
    put_format(&mut batch);
    engine.write(&batch)?;
    engine.sync()?;
    Ok(Some(found))
}
