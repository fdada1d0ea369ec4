//! Wire images: subscribers that must see the same bytes share one encoding of them.

use mqtt_codec::{PacketId, PublishHead, QoS, Version};
use sharedbuf::{Class, WriteQueue};

use super::aliases::Naming;
use crate::publication::View;

/// Frames up to this size are copied into the out-block of each connection; the payload of larger
/// ones is referenced. A copy of this size costs less than an iovec and two atomics.
pub(super) const COPY_BYTES_MAX: usize = 1_024;

/// Two wire formats, three QoS, retained or not.
const CLASSES: usize = 12;

#[derive(Debug, Default)]
struct Image {
    state: ImageState,
    /// The whole frame, or all of it up to the payload.
    bytes: Vec<u8>,
    total_len: usize,
    packet_id_at: usize,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
enum ImageState {
    #[default]
    Empty,
    Ready,
    /// No packet can hold it.
    TooLarge,
}

/// How one subscriber sees a publication.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Look<'a> {
    pub(crate) version: Version,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    pub(crate) packet_id: Option<PacketId>,
    pub(crate) identifiers: &'a [u32],
    /// Its topic is not that of the publication: the image is for this subscriber alone.
    pub(crate) is_renamed: bool,
    pub(crate) naming: Naming,
}

impl Look<'_> {
    /// The place of its image among those that are shared.
    fn class(&self) -> usize {
        let wire = usize::from(self.version == Version::V5);
        (wire * 3 + self.qos as usize) * 2 + usize::from(self.retain)
    }
}

/// The frame is larger than the client takes, or than a packet can be.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) struct TooLarge;

/// The images of the publication that is being delivered.
#[derive(Debug, Default)]
pub(crate) struct Images {
    classes: [Image; CLASSES],
    single: Image,
}

impl Images {
    /// Forgets the images of the last publication.
    pub(crate) fn begin(&mut self) {
        for image in &mut self.classes {
            image.state = ImageState::Empty;
        }
    }

    /// The whole frame that a subscriber without anything special gets of `view` at this QoS, and
    /// where in it a packet id stands; empty where it is longer than what is copied.
    pub(super) fn plain_frame<'a>(
        &'a mut self,
        view: &View<'a>,
        version: Version,
        qos: QoS,
        packet_id: Option<PacketId>,
        now_ms: u64,
    ) -> (&'a [u8], usize) {
        if qos == QoS::AtMostOnce
            && let Some(frame) = view.image(version)
        {
            return (frame, 0);
        }
        let look = Look {
            version,
            qos,
            retain: false,
            dup: false,
            packet_id: None,
            identifiers: &[],
            is_renamed: false,
            naming: Naming::Whole,
        };
        let Some(image) = self.classes.get_mut(look.class()) else {
            return (&[], 0);
        };
        if image.state == ImageState::Empty {
            image.encode(view, &look, now_ms);
        }
        let is_whole = image.state == ImageState::Ready && image.bytes.len() == image.total_len;
        debug_assert!(is_whole, "the caller has looked at the length");
        if !is_whole {
            return (&[], 0);
        }
        if let Some(packet_id) = packet_id {
            mqtt_codec::patch_packet_id(&mut image.bytes, image.packet_id_at, packet_id);
        }
        (&image.bytes, image.packet_id_at)
    }

    /// Queues the frame that one subscriber gets of `view`.
    pub(crate) fn push(
        &mut self,
        out: &mut WriteQueue,
        view: &View<'_>,
        look: Look<'_>,
        bytes_max: usize,
        now_ms: u64,
    ) -> Result<(), TooLarge> {
        // Without the frame that introduces an alias, those after it could not be read.
        let introduces = matches!(look.naming, Naming::Introduced(_));
        let class = if look.qos == QoS::AtMostOnce && !introduces {
            Class::Droppable
        } else {
            Class::Message
        };
        if look.qos == QoS::AtMostOnce
            && !look.retain
            && look.identifiers.is_empty()
            && look.naming == Naming::Whole
            && let Some(frame) = view.image(look.version)
        {
            return push_as_it_came(out, view, frame, bytes_max, class);
        }
        let is_shared = look.identifiers.is_empty()
            && !look.dup
            && !look.is_renamed
            && look.naming == Naming::Whole;
        let image = if is_shared {
            let Some(image) = self.classes.get_mut(look.class()) else {
                return Err(TooLarge);
            };
            image
        } else {
            self.single.state = ImageState::Empty;
            &mut self.single
        };
        if image.state == ImageState::Empty {
            image.encode(view, &look, now_ms);
        }
        image.push(out, view, look.packet_id, bytes_max, class)
    }
}

fn push_as_it_came(
    out: &mut WriteQueue,
    view: &View<'_>,
    frame: &[u8],
    bytes_max: usize,
    class: Class,
) -> Result<(), TooLarge> {
    if frame.len() > bytes_max {
        return Err(TooLarge);
    }
    if frame.len() <= COPY_BYTES_MAX {
        out.push_copy(frame, class);
    } else {
        out.push_slice(view.share(), class);
    }
    Ok(())
}

impl Image {
    fn encode(&mut self, view: &View<'_>, look: &Look<'_>, now_ms: u64) {
        let payload = view.payload();
        let head = PublishHead {
            dup: look.dup,
            qos: look.qos,
            retain: look.retain,
            topic: match look.naming {
                Naming::Alias(_) => "",
                Naming::Whole | Naming::Introduced(_) => view.topic(),
            },
            // The id is patched in for each subscriber; its place is kept by any.
            packet_id: (look.qos != QoS::AtMostOnce).then_some(PacketId::MIN),
            message_expiry: view.expiry_left_s(now_ms),
            subscription_ids: look.identifiers,
            topic_alias: match look.naming {
                Naming::Whole => None,
                Naming::Introduced(alias) | Naming::Alias(alias) => Some(alias),
            },
            pass_through: view.properties(),
            payload_len: payload.len(),
        };
        self.bytes.clear();
        self.state = ImageState::TooLarge;
        let Ok(total_len) = head.check(look.version) else {
            return;
        };
        self.total_len = total_len;
        let head_len = total_len - payload.len();
        self.packet_id_at = head.packet_id_offset(look.version).unwrap_or(0);
        self.bytes.resize(head_len, 0);
        head.encode_head(look.version, &mut self.bytes);
        if self.total_len <= COPY_BYTES_MAX {
            self.bytes.extend_from_slice(payload);
        }
        self.state = ImageState::Ready;
    }

    fn push(
        &mut self,
        out: &mut WriteQueue,
        view: &View<'_>,
        packet_id: Option<PacketId>,
        bytes_max: usize,
        class: Class,
    ) -> Result<(), TooLarge> {
        if self.state == ImageState::TooLarge || self.total_len > bytes_max {
            return Err(TooLarge);
        }
        if let Some(packet_id) = packet_id {
            mqtt_codec::patch_packet_id(&mut self.bytes, self.packet_id_at, packet_id);
        }
        if self.bytes.len() == self.total_len {
            out.push_copy(&self.bytes, class);
        } else {
            out.push_parts(&self.bytes, view.payload_slice(), class);
        }
        Ok(())
    }
}
