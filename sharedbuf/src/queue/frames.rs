//! Where frames end: four bytes a frame.

/// What may be done with a frame under pressure.
#[derive(Copy, Clone, Debug, Eq, PartialEq)]
pub enum Class {
    /// Belongs to the protocol and is never dropped.
    Control,
    /// A message that must not be dropped.
    Message,
    /// A message that may be dropped.
    Droppable,
}

/// Length and class of a frame. The length of one that was dropped is zero.
#[derive(Copy, Clone, Debug)]
pub(super) struct Frame(u32);

impl Frame {
    pub(super) fn new(len: usize, class: Class) -> Self {
        assert!(
            len <= super::FRAME_BYTES_MAX,
            "a frame has at most 2^30 - 1 bytes"
        );
        let class = match class {
            Class::Control => 0,
            Class::Message => 1,
            Class::Droppable => 2,
        };
        Self((len as u32) << 2 | class)
    }

    pub(super) fn len(self) -> usize {
        (self.0 >> 2) as usize
    }

    pub(super) fn is_droppable(self) -> bool {
        self.0 & 3 == 2
    }

    pub(super) fn is_gone(self) -> bool {
        self.len() == 0
    }

    /// Marks the frame as dropped.
    pub(super) fn remove(&mut self) {
        self.0 &= 3;
    }
}
