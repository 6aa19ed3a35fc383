//! `asset_policy`: where files are put, how they are fetched, how large they may be.
//!
//! Source: draft-ietf-mimi-room-policy-03, section 6.4.

use super::{
    BadComponent, Component, ComponentId,
    fields::{Fields, put_list},
};
use crate::{
    limits::{POLICY_ASSET_ELEMENTS_MAX, POLICY_COMPONENT_BYTES_MAX, POLICY_TEXT_BYTES_MAX},
    mls::codec::reader::put_vector,
};

/// Where the clients of one provider put files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UploadDomains {
    /// The provider's domain.
    pub provider: String,
    /// Where its clients put files.
    pub destinations: Vec<String>,
}

/// How files are fetched; of each 0 is from where they lie, 1 through the hub, 2 by Oblivious HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DownloadPrivacy {
    /// Ways that are allowed.
    pub allowed: Vec<u8>,
    /// Ways that are not.
    pub forbidden: Vec<u8>,
    /// The way that is meant.
    pub usual: u8,
}

/// What holds for files; the hub passes it on, clients go by it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssetPolicy {
    /// Where they are put: 0 anywhere, 1 at the sender's provider, 2 at the hub.
    pub location: u8,
    /// By provider.
    pub domains: Vec<UploadDomains>,
    /// How they are fetched.
    pub privacy: DownloadPrivacy,
    /// Largest image, sound, film and other file, in bytes.
    pub sizes_max: [u64; 4],
    /// Media types that may not be sent, each as encoded.
    pub forbidden_types: Vec<u8>,
    /// The only media types that may be sent, if there is such a list, as encoded.
    pub permitted_types: Option<Vec<u8>>,
}

const BOUNDS: (usize, usize) = (POLICY_ASSET_ELEMENTS_MAX, POLICY_COMPONENT_BYTES_MAX);
/// The largest number of the enums here.
const LAST: u8 = 2;

fn read_number(fields: &mut Fields<'_>, field: &'static str) -> Result<u8, BadComponent> {
    match fields.u8(field)? {
        number @ 0..=LAST => Ok(number),
        _ => Err(fields.refuse(field, "is none of the numbers that there are")),
    }
}

impl Component for AssetPolicy {
    const ID: ComponentId = ComponentId::ASSETS;

    fn decode(data: &[u8]) -> Result<Self, BadComponent> {
        let mut fields = Fields::new(Self::ID, data);
        let location = read_number(&mut fields, "asset_upload_location")?;
        let domains = fields.list("upload_domains", BOUNDS, |one| {
            let provider = one.text("provider", POLICY_TEXT_BYTES_MAX)?;
            let destinations = one.list("asset_upload_destinations", BOUNDS, |one| {
                one.text("asset_upload_destinations", POLICY_TEXT_BYTES_MAX)
            })?;
            Ok(UploadDomains {
                provider,
                destinations,
            })
        })?;
        let allowed = fields.list("allowed_download_types", BOUNDS, |one| {
            read_number(one, "allowed_download_types")
        })?;
        let forbidden = fields.list("forbidden_download_types", BOUNDS, |one| {
            read_number(one, "forbidden_download_types")
        })?;
        let usual = read_number(&mut fields, "default_download_type")?;
        if forbidden.contains(&usual) || allowed.iter().any(|one| forbidden.contains(one)) {
            return Err(fields.refuse("forbidden_download_types", "are allowed, too"));
        }
        let mut sizes_max = [0; 4];
        let names = ["max_image", "max_audio", "max_video", "max_attachment"];
        for (size, field) in sizes_max.iter_mut().zip(names) {
            *size = fields.u64(field)?;
        }
        let forbidden_types = fields.bytes("forbidden_media_types", POLICY_COMPONENT_BYTES_MAX)?;
        let field = "permitted_media_types";
        let permitted = fields.bool(field)?;
        let permitted = permitted.then(|| fields.bytes(field, POLICY_COMPONENT_BYTES_MAX));
        let permitted_types = permitted.transpose()?.map(<[u8]>::to_vec);
        fields.finish()?;
        Ok(Self {
            location,
            domains,
            privacy: DownloadPrivacy {
                allowed,
                forbidden,
                usual,
            },
            sizes_max,
            forbidden_types: forbidden_types.to_vec(),
            permitted_types,
        })
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![self.location];
        put_list(&mut out, &self.domains, |out, one| {
            put_vector(out, one.provider.as_bytes());
            put_list(out, &one.destinations, |out, one| {
                put_vector(out, one.as_bytes());
            });
        });
        put_vector(&mut out, &self.privacy.allowed);
        put_vector(&mut out, &self.privacy.forbidden);
        out.push(self.privacy.usual);
        for size in self.sizes_max {
            out.extend(size.to_be_bytes());
        }
        put_vector(&mut out, &self.forbidden_types);
        out.push(u8::from(self.permitted_types.is_some()));
        if let Some(types) = &self.permitted_types {
            put_vector(&mut out, types);
        }
        out
    }
}
