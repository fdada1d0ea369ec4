//! What a store takes of the heap.

use core::ops::Range;

use super::{Children, Places, TopicStore};

impl Children {
    /// The size of each allocation.
    fn for_each_allocation(&self, visit: &mut impl FnMut(usize)) {
        if let Self::Many(many) = self {
            visit(size_of::<Places>());
            visit(many.places.capacity() * size_of::<u32>());
            visit(many.free.capacity() * size_of::<u32>());
        }
    }
}

impl<V> TopicStore<V> {
    /// The heap of the store's tables, in bytes: without texts, the nodes' lists of children and
    /// what values own, which [`for_each_allocation`](Self::for_each_allocation) tells.
    ///
    /// # Complexity
    ///
    /// O(nodes / 512).
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let mut bytes =
            self.nodes.heap_bytes() + self.index.heap_bytes() + self.deadlines.heap_bytes();
        self.roots
            .for_each_allocation(&mut |allocation| bytes += allocation);
        bytes
    }

    /// What the places of nodes are below; a node is a topic, or a prefix of one.
    #[must_use]
    pub fn nodes_end(&self) -> u32 {
        self.nodes.ids_end()
    }

    /// Calls `visit` with the size of each allocation that nodes take beside the store's tables
    /// ([`heap_bytes`](Self::heap_bytes)), and `value` with each value among them. For an account
    /// of memory in bounded steps.
    ///
    /// # Complexity
    ///
    /// O(places).
    pub fn for_each_allocation(
        &self,
        places: Range<u32>,
        mut visit: impl FnMut(usize),
        mut value: impl FnMut(&V),
    ) {
        for node in places.filter_map(|id| self.nodes.get(id)) {
            visit(node.text.len());
            node.children.for_each_allocation(&mut visit);
            if let Some(own) = &node.value {
                value(own);
            }
        }
    }
}
