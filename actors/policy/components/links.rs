//! `join_link_policy` and `join_links`: links by which somebody may join.
//!
//! Source: draft-ietf-mimi-room-policy-03, section 6.2.

use super::{
    BadComponent, Component, ComponentId,
    fields::{Fields, put_list},
};
use crate::{
    limits::{POLICY_COMPONENT_BYTES_MAX, POLICY_JOIN_LINKS_MAX, URI_BYTES_MAX},
    mls::codec::reader::put_vector,
};

/// How one gets a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinLinkPolicy {
    /// Whether it has to be asked for elsewhere.
    pub on_request: bool,
    /// The link; empty where it is on request.
    pub join_link: String,
    /// Whether several users may use it.
    pub multiuser: bool,
    /// When it ends, in seconds since 1970.
    pub expiration_s: u32,
}

impl Component for JoinLinkPolicy {
    const ID: ComponentId = ComponentId::JOIN_LINK_POLICY;

    fn decode(data: &[u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(Self::ID, data);
        let policy = Self {
            on_request: fields.bool("on_request")?,
            join_link: fields.text("join_link", URI_BYTES_MAX)?,
            multiuser: fields.bool("multiuser")?,
            expiration_s: fields.u32("expiration")?,
        };
        fields.finish()?;
        if policy.on_request && !policy.join_link.is_empty() {
            return Err(fields.refuse("join_link", "is there, and on request"));
        }
        Ok(policy)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.on_request)];
        put_vector(&mut out, self.join_link.as_bytes());
        out.push(u8::from(self.multiuser));
        out.extend(self.expiration_s.to_be_bytes());
        out
    }
}

/// Links that are in use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinLinks {
    /// Each a URI.
    pub links: Vec<String>,
}

impl Component for JoinLinks {
    const ID: ComponentId = ComponentId::JOIN_LINKS;

    fn decode(data: &[u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(Self::ID, data);
        let bounds = (POLICY_JOIN_LINKS_MAX, POLICY_COMPONENT_BYTES_MAX);
        let links = fields.list("join_link", bounds, |one| {
            one.text("join_link", URI_BYTES_MAX)
        })?;
        fields.finish()?;
        Ok(Self { links })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_list(&mut out, &self.links, |out, one| {
            put_vector(out, one.as_bytes());
        });
        out
    }
}
