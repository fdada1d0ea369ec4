//! The design that most brokers have: a hash map of children in every node.

use std::collections::HashMap;

/// A trie of filters.
#[derive(Debug, Default)]
pub struct Trie {
    children: HashMap<String, Self>,
    plus: Option<Box<Self>>,
    here: Vec<u32>,
    hash: Vec<u32>,
}

impl Trie {
    /// Adds a subscription.
    pub fn insert(&mut self, filter: &str, subscriber: u32) {
        let mut node = self;
        for level in filter.split('/') {
            match level {
                "#" => {
                    node.hash.push(subscriber);
                    return;
                }
                "+" => node = node.plus.get_or_insert_default(),
                level => node = node.children.entry(level.to_owned()).or_default(),
            }
        }
        node.here.push(subscriber);
    }

    /// Visits the subscribers of all filters that match; `root` is true from outside.
    pub fn for_each_match(&self, levels: &[&str], root: bool, visit: &mut impl FnMut(u32)) {
        let wild = !(root && levels.first().is_some_and(|level| level.starts_with('$')));
        if wild {
            self.hash.iter().for_each(|subscriber| visit(*subscriber));
        }
        let Some((first, rest)) = levels.split_first() else {
            self.here.iter().for_each(|subscriber| visit(*subscriber));
            return;
        };
        if let Some(child) = self.children.get(*first) {
            child.for_each_match(rest, false, visit);
        }
        if let (true, Some(plus)) = (wild, &self.plus) {
            plus.for_each_match(rest, false, visit);
        }
    }
}
