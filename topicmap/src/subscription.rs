//! What a SUBSCRIBE asks for: a plain filter or a share of one.

use crate::{Filter, FilterError, Limits};

const PREFIX: &str = "$share/";

/// A shared subscription `$share/GROUP/FILTER` (MQTT 5.0, 4.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedFilter<'a> {
    /// The share name: at least one character, none of them `/`, `+` or `#`.
    pub group: &'a str,
    /// The filter behind the share name.
    pub filter: Filter<'a>,
}

/// A subscription as a client writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscription<'a> {
    /// A filter of the client's own.
    Plain(Filter<'a>),
    /// A filter whose messages are dealt out among the members of a group.
    Shared(SharedFilter<'a>),
}

impl<'a> Subscription<'a> {
    /// The filter that topics are matched with.
    #[must_use]
    pub const fn filter(&self) -> &Filter<'a> {
        match self {
            Self::Plain(filter) | Self::Shared(SharedFilter { filter, .. }) => filter,
        }
    }

    /// The share name, if there is one.
    #[must_use]
    pub const fn group(&self) -> Option<&'a str> {
        match self {
            Self::Plain(_) => None,
            Self::Shared(shared) => Some(shared.group),
        }
    }
}

/// Validates `text` as a subscription: `$share/GROUP/FILTER` or a plain filter.
///
/// The limits hold for the filter and, in bytes, for the whole text. `$share` without a `/` behind
/// it is an ordinary filter. Allocates nothing.
///
/// # Errors
///
/// As [`Filter::parse`], and when a text that begins with `$share/` lacks a share name
/// [MQTT-4.8.2-1], has a wildcard in it, or lacks a filter behind it [MQTT-4.8.2-2]. Positions
/// count from the beginning of `text`.
///
/// # Examples
///
/// ```
/// use topicmap::{Limits, Subscription, parse_subscription};
///
/// let parsed = parse_subscription("$share/workers/jobs/#", &Limits::default())?;
/// assert_eq!(parsed.group(), Some("workers"));
/// assert_eq!(parsed.filter().as_str(), "jobs/#");
/// # Ok::<(), topicmap::FilterError>(())
/// ```
pub fn parse_subscription<'a>(
    text: &'a str,
    limits: &Limits,
) -> Result<Subscription<'a>, FilterError> {
    let Some(rest) = text.strip_prefix(PREFIX) else {
        return Filter::parse(text, limits).map(Subscription::Plain);
    };
    if text.len() > usize::from(limits.bytes_max) {
        return Err(FilterError::TooLong {
            position: usize::from(limits.bytes_max),
        });
    }
    let (group, filter) = match rest.split_once('/') {
        Some((group, filter)) => (group, Some(filter)),
        None => (rest, None),
    };
    if group.is_empty() {
        return Err(FilterError::ShareNameEmpty {
            position: PREFIX.len(),
        });
    }
    if let Some(at) = group.find(['+', '#']) {
        return Err(FilterError::ShareNameWildcard {
            position: PREFIX.len() + at,
        });
    }
    let behind = PREFIX.len() + group.len();
    let Some(filter) = filter else {
        return Err(FilterError::ShareWithoutFilter { position: behind });
    };
    let filter = Filter::parse(filter, limits).map_err(|error| error.shifted(behind + 1))?;
    Ok(Subscription::Shared(SharedFilter { group, filter }))
}
