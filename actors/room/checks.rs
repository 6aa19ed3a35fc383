//! The checks of a room, as a worker runs them: off the actors, on nothing but what the check carries.
//!
//! Source: transport requirements, sections 3.2, 3.3 and 7.3.

use super::{
    codes::{Code, CodeFlaw},
    desk::{Check, Checked},
    expelling::{ToExpel, left_in},
    secrets,
};
use crate::{
    bucket::Rate,
    group_info::{self, Sealing},
    ids::ClientUri,
    limits::{COMMITS_BURST_PER_MEMBER, COMMITS_PER_MINUTE_PER_MEMBER, LEASE_MS},
    machine::Millis,
    mls::{
        check::{
            bundle::{Bundle, BundleRefused, CheckedBundle, Terms, check_bundle},
            create::{CheckedCreate, check_create},
            expel::{self, NotProposed},
            proposal::{PendingProposal, ProposalRefused, check_proposal},
        },
        codec::{
            group_info::external_sender_keys,
            sealed::{self, NotSealed},
        },
        tree::view::GroupView,
    },
    wire::{
        Payload,
        event::Hash,
        joining::{CodeId, CodeTerms, GroupInfoRequest, SealedGroupInfo},
        refusal::RefusalCode,
        room::Beginning,
    },
};
use bytes::Bytes;
use std::{fmt, sync::Arc};

/// How often one member may commit, by default.
pub const COMMIT_RATE: Rate = Rate {
    burst: COMMITS_BURST_PER_MEMBER,
    per_minute: COMMITS_PER_MINUTE_PER_MEMBER,
};

/// What knows whether MLS objects are what they say.
pub trait Verifier {
    /// Checks an epoch-0 group of one.
    ///
    /// # Errors
    /// Why it may not be a room's.
    fn create(
        &self,
        creator: &ClientUri,
        beginning: &Beginning,
    ) -> Result<CheckedCreate, BundleRefused>;

    /// Checks a Commit bundle of `sender` against the state it must follow from. Whoever it adds must have a KeyPackage
    /// that is good `now`.
    ///
    /// # Errors
    /// Why it may not open an epoch.
    fn bundle(
        &self,
        view: &GroupView,
        pending: &[PendingProposal],
        bundle: &Bundle,
        sender: &ClientUri,
        now: Millis,
    ) -> Result<CheckedBundle, BundleRefused>;

    /// Checks a Proposal of `sender`; a KeyPackage in it must be good `now`.
    ///
    /// # Errors
    /// Why it may not wait for a Commit.
    fn proposal(
        &self,
        view: &GroupView,
        message: &Bytes,
        sender: &ClientUri,
        now: Millis,
    ) -> Result<PendingProposal, ProposalRefused>;

    /// A Remove that the hub proposes of the member at `leaf`, for `epoch`: that of the view, or the next.
    ///
    /// # Errors
    /// Why members would not take it.
    fn expel(
        &self,
        view: &GroupView,
        epoch: u64,
        leaf: u32,
    ) -> Result<PendingProposal, NotProposed>;

    /// What makes a request for the GroupInfo of no use, if anything does; a stable code.
    fn request_flaw(&self, request: &GroupInfoRequest) -> Option<RefusalCode>;

    /// Seals a GroupInfo for its joiner, and signs it as the hub.
    ///
    /// # Errors
    /// [`NotSealed`] when nothing can be sealed to the joiner's key.
    fn seal(&self, sealing: &Sealing) -> Result<SealedGroupInfo, NotSealed>;

    /// Sixteen bytes that nobody can guess; `of` names what they are for, and is all that a model goes by.
    fn random(&self, of: Hash) -> Option<[u8; 16]>;

    /// How long leases last, in milliseconds.
    fn lease_ms(&self) -> u32 {
        LEASE_MS
    }

    /// How often one member may commit.
    fn commit_rate(&self) -> Rate {
        COMMIT_RATE
    }
}

/// Signs with the Ed25519 key of the hub that has this public key.
pub type HubSigner = Arc<dyn Fn(&[u8; 32], &[u8]) -> Vec<u8> + Send + Sync>;

/// The cryptography of RFC 9420.
#[derive(Clone)]
pub struct Mls {
    /// Signs as the hub, with one of its keys in [`Terms::hub`].
    pub hub_signer: HubSigner,
    /// What else it goes by.
    pub terms: Terms,
    /// How long leases last, in milliseconds.
    pub lease_ms: u32,
    /// How often one member may commit.
    pub commit_rate: Rate,
}

impl fmt::Debug for Mls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mls({:?})", self.terms.hub)
    }
}

impl Verifier for Mls {
    fn create(
        &self,
        creator: &ClientUri,
        beginning: &Beginning,
    ) -> Result<CheckedCreate, BundleRefused> {
        let Beginning { group_info, tree } = beginning;
        check_create(group_info, tree, &self.terms.hub, creator, &self.terms)
    }

    fn bundle(
        &self,
        view: &GroupView,
        pending: &[PendingProposal],
        bundle: &Bundle,
        sender: &ClientUri,
        now: Millis,
    ) -> Result<CheckedBundle, BundleRefused> {
        check_bundle(view, pending, bundle, sender, now, &self.terms)
    }

    fn proposal(
        &self,
        view: &GroupView,
        message: &Bytes,
        sender: &ClientUri,
        now: Millis,
    ) -> Result<PendingProposal, ProposalRefused> {
        let Terms { trees, hub, .. } = &self.terms;
        check_proposal(view, message, sender, now, trees, hub)
    }

    fn expel(
        &self,
        view: &GroupView,
        epoch: u64,
        leaf: u32,
    ) -> Result<PendingProposal, NotProposed> {
        expel::expel(view, epoch, leaf, &self.terms.hub, &*self.hub_signer)
    }

    fn request_flaw(&self, request: &GroupInfoRequest) -> Option<RefusalCode> {
        group_info::request_flaw(request)
    }

    fn seal(&self, sealing: &Sealing) -> Result<SealedGroupInfo, NotSealed> {
        let listed = external_sender_keys(&sealing.material.group_info).unwrap_or_default();
        let key = self.terms.hub.signing_key(&listed);
        group_info::seal(sealing, |bytes| {
            key.map(|key| (self.hub_signer)(key, bytes))
                .unwrap_or_default()
        })
    }

    fn random(&self, _of: Hash) -> Option<[u8; 16]> {
        sealed::random()
    }

    fn lease_ms(&self) -> u32 {
        self.lease_ms
    }

    fn commit_rate(&self) -> Rate {
        self.commit_rate
    }
}

/// Does the work of one check.
#[must_use]
pub fn run(check: Check, with: &impl Verifier) -> Checked {
    match check {
        Check::Create { creator, beginning } => {
            let result = with.create(&creator, &beginning);
            Checked::Create { creator, result }
        }
        Check::Bundle {
            view,
            pending,
            on,
            bundle,
            sender,
            now,
        } => {
            let result = with.bundle(&view, &pending, &bundle, &sender, now);
            let expelled = result.iter();
            let expelled = expelled.flat_map(|checked| left_in(&pending, checked));
            // The hub could propose it before; what it cannot, it finds out once the epoch is open.
            let again = |leaf| with.expel(&view, on.epoch.next().0, leaf).ok();
            Checked::Bundle {
                on,
                rate: with.commit_rate(),
                again: expelled.filter_map(again).collect(),
                result,
            }
        }
        Check::Expel(ToExpel {
            view, on, leaves, ..
        }) => {
            let expel = |leaf: &u32| with.expel(&view, on.0, *leaf).ok();
            let proposals = leaves.iter().filter_map(expel).collect();
            Checked::Expel { on, proposals }
        }
        Check::Proposals {
            view,
            on,
            messages,
            sender,
            now,
        } => {
            let check = |message: Payload| with.proposal(&view, &message, &sender, now);
            let result = messages.try_map(check);
            Checked::Proposals { sender, on, result }
        }
        Check::Admit {
            request,
            group_id,
            codes,
            now,
        } => {
            let flaw = with.request_flaw(&request);
            let code = request.code.as_ref().filter(|_| flaw.is_none());
            Checked::Admit {
                flaw,
                code: code.map(|code| try_code(&request, &group_id, code, &codes, now)),
                lease_ms: with.lease_ms(),
            }
        }
        Check::Seal(sealing) => Checked::Sealed(with.seal(&sealing)),
        Check::MintCode {
            creator,
            group_id,
            terms,
            now,
        } => Checked::Minted(mint(creator, &group_id, &terms, now, with)),
    }
}

/// Which code of the room this is, if it admits.
fn try_code(
    request: &GroupInfoRequest,
    group_id: &[u8],
    code: &[u8],
    codes: &[(CodeId, Code)],
    now: Millis,
) -> Result<CodeId, CodeFlaw> {
    let hash = secrets::hash_code(group_id, code);
    let (id, code) = secrets::find_code(codes, &hash).ok_or(CodeFlaw::Unknown)?;
    if let Some(flaw) = code.flaw(now) {
        return Err(flaw);
    }
    // Slow, but only for who knows the code: nobody else can make the hub do it.
    let known = code.passphrase.as_ref().is_none_or(|kept| {
        let passphrase = request.passphrase.as_ref();
        passphrase.is_some_and(|passphrase| secrets::is_passphrase(kept, passphrase))
    });
    if known {
        Ok(*id)
    } else {
        Err(CodeFlaw::Passphrase)
    }
}

/// A new code: in the clear, and as it is kept.
fn mint(
    creator: ClientUri,
    group_id: &[u8],
    terms: &CodeTerms,
    now: Millis,
    with: &impl Verifier,
) -> Option<(Payload, Code)> {
    let of = |what: &[u8]| {
        let (creator, now) = (creator.to_string(), now.0.to_be_bytes());
        Hash::of_parts([creator.as_bytes(), group_id, &now, what])
    };
    let clear = with.random(of(b"code"))?;
    let passphrase = match &terms.passphrase {
        None => None,
        Some(text) => Some(secrets::hash_passphrase(text, with.random(of(b"salt"))?)?),
    };
    let code = Code {
        hash: secrets::hash_code(group_id, &clear),
        uses_left: terms.uses,
        not_after: terms.lifetime_ms.map(|lifetime_ms| now.plus(lifetime_ms)),
        role_index: terms.role_index,
        passphrase,
        creator,
        revoked: false,
    };
    Some((clear.to_vec().into(), code))
}
