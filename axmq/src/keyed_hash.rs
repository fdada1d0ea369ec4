//! Hashes under secret keys: what clients choose must not decide where it lands.

use std::hash::{BuildHasher, DefaultHasher, Hasher, RandomState};

/// SipHash behind 128 secret bits. The standard library's [`RandomState`] is the same thing but
/// for its keys, which nobody can choose: in a simulation they have to follow from its seed.
#[derive(Clone, Debug)]
pub(crate) struct KeyedHash {
    keys: [u64; 2],
}

impl KeyedHash {
    pub(crate) const fn with_keys(keys: [u64; 2]) -> Self {
        Self { keys }
    }

    /// Keys that nobody knows.
    pub(crate) fn secret() -> Self {
        let key = || RandomState::new().build_hasher().finish();
        Self::with_keys([key(), key()])
    }
}

impl BuildHasher for KeyedHash {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        for key in self.keys {
            hasher.write_u64(key);
        }
        hasher
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_decide_and_secret_ones_differ() {
        let hash = |keys| KeyedHash::with_keys(keys).hash_one("client");
        assert_eq!(hash([1, 2]), hash([1, 2]));
        assert_ne!(hash([1, 2]), hash([2, 1]));
        assert_ne!(
            KeyedHash::secret().hash_one("client"),
            KeyedHash::secret().hash_one("client")
        );
    }
}
