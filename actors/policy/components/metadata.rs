//! `room_metadata`: what people are shown of a room.
//!
//! Source: draft-ietf-mimi-protocol-06, section 4.

use super::{
    BadComponent, Component, ComponentId,
    fields::{Fields, put_list},
};
use crate::{
    limits::{
        POLICY_COMPONENT_BYTES_MAX, POLICY_DESCRIPTIONS_MAX, POLICY_TEXT_BYTES_MAX, URI_BYTES_MAX,
    },
    mls::codec::reader::put_vector,
};

/// A description in one language and form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Empty for plain UTF-8.
    pub media_type: String,
    /// As in BCP 47.
    pub language_tag: String,
    /// Of that media type.
    pub content: Vec<u8>,
}

/// What people are shown of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomMetadata {
    /// The room.
    pub room_uri: String,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub descriptions: Vec<Description>,
    /// Where its picture lies.
    pub avatar: String,
    /// What is talked about.
    pub subject: String,
    /// How.
    pub mood: String,
}

impl Component for RoomMetadata {
    const ID: ComponentId = ComponentId::METADATA;

    fn decode(data: &[u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(Self::ID, data);
        let room_uri = fields.text("room_uri", URI_BYTES_MAX)?;
        let name = fields.text("room_name", POLICY_TEXT_BYTES_MAX)?;
        let bounds = (POLICY_DESCRIPTIONS_MAX, POLICY_COMPONENT_BYTES_MAX);
        let descriptions = fields.list("room_descriptions", bounds, |one| {
            Ok(Description {
                media_type: one.text("media_type", POLICY_TEXT_BYTES_MAX)?,
                language_tag: one.text("language_tag", POLICY_TEXT_BYTES_MAX)?,
                content: one
                    .bytes("description_content", POLICY_COMPONENT_BYTES_MAX)?
                    .to_vec(),
            })
        })?;
        let avatar = fields.text("room_avatar", URI_BYTES_MAX)?;
        let subject = fields.text("room_subject", POLICY_TEXT_BYTES_MAX)?;
        let mood = fields.text("room_mood", POLICY_TEXT_BYTES_MAX)?;
        fields.finish()?;
        Ok(Self {
            room_uri,
            name,
            descriptions,
            avatar,
            subject,
            mood,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_vector(&mut out, self.room_uri.as_bytes());
        put_vector(&mut out, self.name.as_bytes());
        put_list(&mut out, &self.descriptions, |out, one| {
            put_vector(out, one.media_type.as_bytes());
            put_vector(out, one.language_tag.as_bytes());
            put_vector(out, &one.content);
        });
        put_vector(&mut out, self.avatar.as_bytes());
        put_vector(&mut out, self.subject.as_bytes());
        put_vector(&mut out, self.mood.as_bytes());
        out
    }
}
