//! The text of a filter: inside its entry where it is short, so that a hit reads it with the entry.

/// Most bytes of a text that needs no heap.
pub(crate) const SHORT_MAX: usize = 30;

/// A text of up to [`SHORT_MAX`] bytes in place, or a longer one on the heap.
#[derive(Debug)]
pub(crate) enum Text {
    Short(u8, [u8; SHORT_MAX]),
    Long(Box<str>),
}

const _: () = assert!(size_of::<Text>() == 32 && size_of::<Option<Text>>() == 32);

impl Text {
    pub(crate) fn new(text: &str) -> Self {
        let mut bytes = [0; SHORT_MAX];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text.as_bytes());
                Self::Short(text.len() as u8, bytes)
            }
            None => Self::Long(text.into()),
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(text) => text.as_bytes(),
        }
    }

    /// The text; a short one is checked to be UTF-8 again.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Short(..) => match core::str::from_utf8(self.as_bytes()) {
                Ok(text) => text,
                Err(error) => unreachable!("the text was a string: {error}"),
            },
            Self::Long(text) => text,
        }
    }

    /// The bytes of the text that are on the heap.
    pub(crate) const fn heap_bytes(&self) -> usize {
        match self {
            Self::Short(..) => 0,
            Self::Long(text) => text.len(),
        }
    }

    /// The bytes of the text that are not on the heap.
    pub(crate) const fn bytes_in_place(&self) -> usize {
        match self {
            Self::Short(len, _) => *len as usize,
            Self::Long(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_all_lengths_come_back() {
        for len in 0..70 {
            let text: String = "aäb€c".chars().cycle().take(len).collect();
            let kept = Text::new(&text);
            assert_eq!((kept.as_str(), kept.as_bytes()), (&*text, text.as_bytes()));
            let short = text.len() <= SHORT_MAX;
            assert_eq!(kept.bytes_in_place(), if short { text.len() } else { 0 });
        }
    }
}
